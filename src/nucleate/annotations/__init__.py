"""Outlines and masks that people or programs drew, from their files."""
