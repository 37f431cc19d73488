"""Small graphs that each ask for one rewrite, by category, and traps, where the tempting rewrite is wrong."""
