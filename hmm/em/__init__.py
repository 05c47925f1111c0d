"""Expectation-maximisation of many HMMs at once."""
