"""Calibration: real inputs from wherever the user has them, and what they tell about the values of a model."""
