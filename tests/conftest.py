"""Hypothesis draws the same examples in every run: a failure is a change of the code, not luck."""

from hypothesis import settings

settings.register_profile("fixed", derandomize=True)
settings.load_profile("fixed")
