"""The hot path: bytes to Arrow. No Spark, no Dagster, no pandas."""
