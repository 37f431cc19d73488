"""What is tried on a GPU to make a model faster, as questions for `tune.choose_options`."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import cast

from ..options import Level, Options
from ..tune import Question, Trial
from .options import CudaOptions, Search

CONVOLUTIONS = frozenset({"Conv", "ConvTranspose", "FusedConv"})


def cuda_questions(operators: Collection[str], uncaptured: str) -> list[Question]:
    """A CUDA graph first, unless it is ``uncaptured`` for a reason: it gains most; then channels last and cuDNN's other ways to find convolutions."""
    asked: list[Question] = []
    if not uncaptured:
        asked.append(lambda best: [replace(best, graph=True)])  # type: ignore[call-arg]
    if not CONVOLUTIONS.isdisjoint(operators):
        searches: tuple[Search, ...] = ("heuristic", "default")
        asked.append(lambda best: [replace(best, nhwc=True)])  # type: ignore[call-arg]
        asked.append(lambda best: [replace(best, search=search) for search in searches if search != cast(CudaOptions, best).search])  # type: ignore[call-arg]
    levels: tuple[Level, ...] = ("extended", "basic")
    asked.append(lambda best: [replace(best, level=level) for level in levels if level != best.level])
    return asked


def refused_capture(best: Options, reason: str) -> Trial:
    """What the report says where a CUDA graph was not even tried."""
    return Trial(replace(best, graph=True), best, failure=f"no CUDA graph: {reason}")  # type: ignore[call-arg]
