"""Artefacts drawn on crops during training, as examples of background."""
