"""A training on disk: its folder, records, checkpoints and results."""
