"""Figures, captions and pages of studies of noise."""
