"""The sweep over numbers of states and restarts, and the choice among its fits."""
