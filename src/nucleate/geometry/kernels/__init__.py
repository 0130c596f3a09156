"""The few loops that neither numpy nor OpenCV can express, compiled by numba.

Nothing here validates: the callers do (`labels.py`, `postprocess.py`, `features.py`). Importing a
file of this folder costs half a second, so it is imported inside the functions that need it. Loops
copy element by element: to assign a slice, numba compiles the text of an error, 5 s at a first
start.
"""
