"""What a tile is worth: tissue, focus, artefacts."""
