"""Dagster: what exists, what depends on what, and what starts it. Wiring, no arithmetic."""
