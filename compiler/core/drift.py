"""How far a rewrite may move the numbers."""

from __future__ import annotations

import enum


class Drift(enum.Enum):
    """The numeric contract of a rewrite, from strictest to loosest."""

    EXACT = "exact"
    """The same bits come out, NaN included."""
    ROUNDING = "reassociated"
    """Equal in real arithmetic; floats may differ by rounding, in step with dtype and reduction length."""
    DOMAIN = "domain"
    """Equal where both sides are defined; needs a range proof or ``fast_math``."""
    LOSSY = "lossy"
    """Compression: different numbers on purpose, under an accuracy budget."""

    @property
    def looseness(self) -> int:
        """Position in the order exact < reassociated < domain < lossy."""
        return list(Drift).index(self)


def loosest(*drifts: Drift) -> Drift:
    """The contract that a sequence of rewrites keeps: the loosest of theirs (exact when there are none)."""
    return max(drifts, key=lambda drift: drift.looseness, default=Drift.EXACT)


EXACT, ROUNDING, DOMAIN, LOSSY = Drift.EXACT, Drift.ROUNDING, Drift.DOMAIN, Drift.LOSSY
