"""Which images to label next, which to keep for honest figures, and which labels to doubt."""
