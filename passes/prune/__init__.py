"""Pruning: what may go from a graph, what should, and graphs that really shrink."""
