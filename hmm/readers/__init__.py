"""Readers: metrics of runs from whatever recorded them, by one route (`readers.read`)."""
