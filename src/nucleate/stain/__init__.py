"""The colours of H&E: optical density and its split into stains."""
