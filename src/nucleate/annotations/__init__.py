"""Readers of outlines and masks from annotation files."""
