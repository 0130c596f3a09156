"""Segment many or large sources, on one or several machines, with resuming."""
