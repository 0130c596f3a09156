"""Inspection, checks, conversion and preparation of data sets before training."""
