"""Many sources, large ones, and several machines: everything can be resumed."""
