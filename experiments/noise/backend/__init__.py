"""One replica trained in processes of its own, under one setting of the tools after another."""
