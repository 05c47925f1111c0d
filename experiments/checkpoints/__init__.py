"""Checkpoints of models that were trained elsewhere, read from disk and measured like our own."""
