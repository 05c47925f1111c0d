"""The training map: its states and edges, and what they say about an outcome."""
