"""What a mixed precision may take, as text: ``size=0.3``, ``latency=0.8``, ``drop=0.01``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from .core.errors import UsageError

__all__ = ["Allowance", "read_allowance"]

Kind = Literal["size", "latency", "drop"]


@dataclass(frozen=True)
class Allowance:
    """``size``: at most this part of the bytes of the weights; ``latency``: at most this part of the time; ``drop``: at most this drop of the metric,
    or of what is measured without one (None: what ``max_drop`` says), with as few bytes as that allows.
    """

    kind: Kind
    amount: float | None


def read_allowance(text: str) -> Allowance:
    """Read ``kind=number``; a percentage is a part of 1. Raises UsageError for anything else."""
    kind, equals, rest = text.strip().partition("=")
    try:
        amount = float(rest.removesuffix("%")) / (100 if rest.endswith("%") else 1)
    except ValueError:
        amount = -1.0
    most = float("inf") if kind == "drop" else 1.0
    if kind not in get_args(Kind) or not equals or not 0 <= amount <= most or amount == float("inf"):
        raise UsageError(f"a budget is written size=0.3, latency=0.8 (parts of what it is now) or drop=0.01, not '{text}'")
    return Allowance(kind, amount)  # type: ignore[arg-type]
