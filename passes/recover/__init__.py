"""Recovery: a compressed model learns to answer as the model did before, from calibration data without labels."""
