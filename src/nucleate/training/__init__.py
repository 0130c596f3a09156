"""Recipe → run folder → model folder."""
