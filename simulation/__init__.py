"""Drives with a known truth, in every recording format: seeded and reproducible byte for byte."""
