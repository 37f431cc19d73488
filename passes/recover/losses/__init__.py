"""How far a compressed model's values are from the original's: one number, 0 where they agree, about 1 where nothing does."""
