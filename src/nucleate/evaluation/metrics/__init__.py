"""How well nuclei were found: numpy functions over one overlap table. Counts add up, ratios do not.

Empty truth and empty prediction give NaN, left out of means with its count shown; empty truth or
empty prediction alone gives 0.
"""
