"""The version, in a separate file, so that the package need not import `nucleate` to read it."""

__version__ = "0.1.0"
