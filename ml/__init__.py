"""Datasets to models: load, train, track, evaluate, judge. Never imports Spark or Dagster."""
