"""From pixels to nuclei: one engine for every source."""
