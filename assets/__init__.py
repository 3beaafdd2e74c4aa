"""Dagster: what exists and what depends on what. Wiring, no arithmetic."""
