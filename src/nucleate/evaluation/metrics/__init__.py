"""Metrics of found nuclei: numpy functions over one overlap table. Counts add up, ratios do not.

If truth and prediction are both empty, the result is NaN, which means omit and count; if only one
is empty, it is 0.
"""
