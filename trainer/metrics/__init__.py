"""Numbers of the weights, computed in the compiled program."""
