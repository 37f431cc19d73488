"""Which sites mind compression most, and how few of them have to stay as they are."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from .core.backend import Backend, Progress, Runner
from .core.errors import GraphwrightError
from .core.passes import Pass
from .divergence import Ruler
from .pipeline import alone
from .rewriting import Rewriter

__all__ = ["Sensitivity", "fewest", "hessian_sensitivity", "measure_sites"]

FEW = 4
"""Samples that one site is measured on."""


@dataclass(frozen=True)
class Sensitivity:
    """What compressing one site alone does to the answers: the ``noise`` in the worst output as a share of its power, infinite where it breaks the model.

    ``form`` and ``bits`` are what the site is then, ``parameters`` how many numbers its weight has; ``form`` is "" where it cannot be compressed.
    """

    site: str
    noise: float
    form: str = ""
    bits: float = 32.0
    parameters: int = 0


def measure_sites(names: Sequence[str], steps: Sequence[Pass], rewriter: Rewriter, backend: Backend, ruler: Ruler, tell: Progress) -> list[Sensitivity]:
    """Compress each of these sites alone, with the passes of ``steps`` that compress, and run the model; in the order given."""
    found: list[Sensitivity] = []
    for number, name in enumerate(names):
        tell(f"sensitivity of site {number + 1} of {len(names)}: {name}")
        found.append(_measure(name, alone(steps, name), rewriter, backend, ruler))
    return found


def _measure(name: str, steps: Sequence[Pass], rewriter: Rewriter, backend: Backend, ruler: Ruler) -> Sensitivity:
    try:
        model, coverage = rewriter.draft(steps)
        record = coverage.records.get(name)
        if record is None or not record.form:
            return Sensitivity(name, math.inf, parameters=record.parameters if record is not None else 0)
        runner: Runner = backend.baseline(model)
    except GraphwrightError:
        return Sensitivity(name, math.inf)
    try:
        noise = ruler.measure(runner, FEW).noise
    finally:
        runner.close()
    return Sensitivity(name, noise if math.isfinite(noise) else math.inf, record.form, record.bits, record.parameters)


def fewest(count: int, holds: Callable[[int], bool]) -> int | None:
    """The least n from 1 to ``count`` for which ``holds(n)``, if it holds from some n on; None when it does not even hold for ``count``.

    Few are tried first: usually few are to blame, and every try costs an evaluation.
    """
    good, bad, step = None, 0, 1
    while bad < count:
        tried = min(bad + step, count)
        if holds(tried):
            good = tried
            break
        bad, step = tried, step * 2
    if good is None:
        return None
    while good - bad > 1:
        middle = (good + bad) // 2
        if holds(middle):
            good = middle
        else:
            bad = middle
    return good


def hessian_sensitivity(moment: np.ndarray, change: np.ndarray) -> float:
    """What a change of a weight [K, M] does to ``X W`` by the curvature alone: ``tr(H) ||W - Q(W)||^2 / K``, with ``moment`` H = X'X / N [K, K].

    The layer-wise form of Q-BERT's measure (average Hessian trace times the squared perturbation, Shen et al. 2019, HAWQ-V2): no run of the model is
    needed, and sites of one kind are ranked well; it does not know what the rest of the model makes of the error.
    """
    if moment.shape != (change.shape[0],) * 2:
        raise ValueError(f"a moment of {moment.shape} does not fit a weight of {change.shape}")
    return float(np.trace(moment) / len(moment) * np.square(change, dtype=np.float64).sum())
