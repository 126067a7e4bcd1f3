"""The faults of `benchmarks/fault_matrix.py`, a file a family, and what they share."""
