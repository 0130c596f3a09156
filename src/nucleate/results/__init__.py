"""Nuclei on disk: Parquet first, and one file per other format."""
