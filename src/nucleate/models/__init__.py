"""Networks: one readable file per family; cards and hashes of models on disk."""
