"""Quality of images: tissue, focus, colours, plausible resolution."""
