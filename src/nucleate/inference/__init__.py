"""From pixels to nuclei: one engine for all of them."""
