"""To be filled."""

from __future__ import annotations

from . import Expansion

EXPANSIONS: dict[str, Expansion] = {}
