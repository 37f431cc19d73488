"""Pruning weight by weight: which numbers of a matrix become zero, and what the others become then."""
