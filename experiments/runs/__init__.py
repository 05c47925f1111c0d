"""The run folder and the steps that fill it: train, fit, map, report, compare, forecast."""
