"""Weights as products of smaller ones: low rank, separable convolutions, sparse factors, and weights that several operators share."""
