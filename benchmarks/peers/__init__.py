"""What `benchmarks/torch_loops.py` compares: PyTorch's networks, the loops, bare products."""
