"""Finished runs → one HTML page: what was trained, how well it does, what it gets wrong."""
