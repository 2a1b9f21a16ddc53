"""Self-contained HTML pages of pictures, and the same pictures as PNG files."""
