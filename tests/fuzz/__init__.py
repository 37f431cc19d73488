"""Random graphs, run through every rule and compared with themselves."""
