"""Train a recipe: recipe → run folder → model folder."""
