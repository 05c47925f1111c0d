"""Metrics of runs recorded from any training loop, without keeping checkpoints."""
