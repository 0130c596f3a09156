"""How well nuclei were found, and whether a difference could be chance."""
