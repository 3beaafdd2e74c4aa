"""Lineage, signatures and evidence."""
