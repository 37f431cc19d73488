"""Small graphs that each ask for one rewrite, by category, and traps, where the tempting rewrite is wrong."""

CATEGORIES = (
    "activations",
    "norms",
    "attention",
    "rotary",
    "lowering",
    "horizontal",
    "weights",
    "algebra",
    "movement",
    "control",
    "quantised",
    "cleanup",
)
TRAPS = ("traps", "traps_of_algebra", "traps_of_attention")
