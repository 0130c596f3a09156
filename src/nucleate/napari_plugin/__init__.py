"""napari plugin: a widget that finds nuclei, and a reader of results; listed in napari.yaml."""
