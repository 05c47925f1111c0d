"""Data sets of images: readers of their published files, and small ones that packages carry."""
