"""Label images, outlines, and drawing. No files, no science."""
