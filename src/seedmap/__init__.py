"""Training maps: train many seeds at once, record their weights, fit an HMM to the records."""
