"""Graphs that torch can differentiate: learned quantisation and recovery training run pieces of a model through them."""
