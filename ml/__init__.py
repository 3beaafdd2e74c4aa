"""Datasets, training, evaluation, the registry and its gates."""
