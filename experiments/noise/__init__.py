"""Randomness by its source (paper B: Zhuang et al. 2022, arXiv 2106.11872)."""
