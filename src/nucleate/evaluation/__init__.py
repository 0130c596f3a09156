"""Metrics of found nuclei, and tests of differences between systems."""
