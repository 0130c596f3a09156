"""Runs → pages, figures and tables."""
