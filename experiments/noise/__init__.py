"""Studies of noise: which source of randomness does what (paper B, arXiv 2106.11872)."""
