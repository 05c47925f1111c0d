"""Noise that tools bring, imitated in the program."""
