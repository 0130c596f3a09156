"""The version, in a file of its own: nothing inside the package imports the facade for it."""

__version__ = "0.1.0"
