"""Quantised graphs: QuantizeLinear and DequantizeLinear nodes that cancel, or stand where they keep integer kernels from being used."""
