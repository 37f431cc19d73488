"""graphwright: a compiler for neural-network graphs."""

__version__ = "0.1.0"
