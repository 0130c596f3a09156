"""The colours of H&E: stains and their amounts, tissue, references, and four normalisers."""
