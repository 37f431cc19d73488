"""Sizes that the kernels of this machine like: multiples that are measured to be faster."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ...compiler.core.judge import Span

__all__ = ["MULTIPLES", "fastest_multiple"]

MULTIPLES = (8, 16)


def fastest_multiple(multiples: Sequence[int], ratio: Callable[[int], Span | None]) -> tuple[int, Span | None]:
    """Of some multiples the one whose model takes least of the time of the model without rounding (``ratio``), if it is surely faster; else 1."""
    spans = {multiple: ratio(multiple) for multiple in multiples}
    faster = {multiple: span for multiple, span in spans.items() if span is not None and span.high < 1}
    if not faster:
        return 1, None
    best = min(faster, key=lambda multiple: faster[multiple].ratio)
    return best, faster[best]
