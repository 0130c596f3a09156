"""From a picture or slide of any size to its nuclei: one engine for all of them."""
