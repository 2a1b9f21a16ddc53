"""Groups of alike images, found without labels, and how well they match labels."""
