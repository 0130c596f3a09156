"""H&E stain: deconvolution, tissue detection, choice of references, and four normalisers."""
