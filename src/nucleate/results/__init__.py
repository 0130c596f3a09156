"""Store nuclei on disk: Parquet is primary, and each other format has one module."""
