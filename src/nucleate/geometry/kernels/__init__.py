"""Loops that neither numpy nor OpenCV can express, compiled by numba.

Arguments are not validated here but by the callers (`labels.py`, `postprocess.py`, `features.py`).
Importing a module of this folder takes half a second, so it is imported inside the functions that
need it. Loops copy element by element: for slice assignment numba compiles the text of an error,
which adds 5 s to the first run.
"""
