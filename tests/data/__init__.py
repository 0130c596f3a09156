"""Generators of tiny trees in the layouts of the real data sets."""

from nucleate.datasets.base import Entry
from nucleate.types import Sample


def in_memory(images):
    """Return entries of images in memory, name -> image; the part before `_` is the patient."""
    return [
        Entry(
            name,
            name.split("_")[0],
            lambda name=name, image=image: Sample(image, None, name, name.split("_")[0], 0.25),
        )
        for name, image in images.items()
    ]
