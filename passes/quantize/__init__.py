"""Quantisation: methods, a file each, named after their papers; the passes that apply them; and the surgery that writes what they give into a graph."""
