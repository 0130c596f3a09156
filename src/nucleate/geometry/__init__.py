"""Label images, outlines, and drawing, without file access."""
