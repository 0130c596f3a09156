"""The version, in a separate file: nothing inside the package imports the facade for it."""

__version__ = "0.1.0"
