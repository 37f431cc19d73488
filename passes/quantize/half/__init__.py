"""Numbers of 16 bits: weights that are stored so, and models that compute so."""
