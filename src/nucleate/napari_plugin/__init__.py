"""nucleate inside napari: finds nuclei of an image layer, opens results. napari.yaml lists both."""
