"""Images without labels → an encoder that a training can start from."""
