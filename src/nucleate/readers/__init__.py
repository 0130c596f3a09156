"""Read any image or slide, from a file, an array or a URL, at any resolution."""
