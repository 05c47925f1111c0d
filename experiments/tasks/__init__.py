"""Tasks: an experiment a file, with its hyperparameters, presets and expected numbers."""
