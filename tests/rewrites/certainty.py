"""What counts as wrong: a broken contract, unless how rounding is measured may be to blame."""

from __future__ import annotations

import math
from collections.abc import Container, Iterable

import numpy as np
import onnx_ir as ir

from graphwright.compiler.core.drift import Drift
from graphwright.compiler.core.graph import all_graphs, is_op
from graphwright.compiler.core.records import Difference
from graphwright.compiler.matching import ancestors
from graphwright.compiler.rounding import has_halves
from graphwright.compiler.verify import Verifier

HALF, SMALLEST_HALF, LARGEST_HALF = 2.0**-9, 2.0**-22, 65504.0
"""Four roundings of a 16-bit float, four of the smallest steps between them, and the largest of them."""
EXP_OVERFLOWS = 88.0
"""Beyond this, exp and what is made of it are infinite in 32 bits."""


def broken(verifier: Verifier, model: ir.Model, only: Iterable[int] | None = None) -> Difference | None:
    """The first difference, on all samples or ``only`` some, by which the contract is broken for certain; None when there is none."""
    for index in range(len(verifier.samples)) if only is None else only:
        found = verifier.check(model, Drift.ROUNDING, (index,))
        if found.broken and not _uncertain(found, verifier, index) and not _softened(found, verifier, model, index):
            return found
    return None


def _uncertain(found: Difference, verifier: Verifier, index: int) -> bool:
    """Whether a difference may come from how rounding is measured, or from an infinity on the way.

    Two roundings of the reference may both be lucky where terms cancel, so that less is allowed than rounding does; and what a sum swallows (x + 1 - 1 where
    x is tiny) is no noise to them at all. Where something overflows, inf - inf comes up or not depending on the order of operations: a NaN may have become
    anything. And the CPU computes on 16-bit floats in 32 bits, rounding in between or not depending on which operators are neighbours.
    """
    stress = verifier.stress[index]
    if math.isnan(found.before):
        return stress.infinite or _largest(_floats(verifier, index)) > EXP_OVERFLOWS
    halves = has_halves(verifier.model)
    if not (math.isfinite(found.before) and math.isfinite(found.after)):
        return halves and min(abs(found.before), abs(found.after)) > LARGEST_HALF
    if halves and found.max_abs < HALF * abs(found.before) + SMALLEST_HALF:
        return True
    return found.max_abs < 4 * found.allowed or found.max_abs < _swallowed(verifier, index, found.output)


def _softened(found: Difference, verifier: Verifier, model: ir.Model, index: int) -> bool:
    """Whether an infinity may have become a NaN in a softmax that the model spells out, where a later operator makes a number of the one only.

    A row with an infinity is NaN throughout after LogSoftmax; less its log-sum-exp, the other places of it are -inf.
    """
    more = _softmaxes(model) > _softmaxes(verifier.model)
    return more and verifier.stress[index].infinite and math.isfinite(found.before) and math.isnan(found.after)


def _softmaxes(model: ir.Model) -> int:
    return sum(is_op(node, "Softmax", "LogSoftmax") for graph in all_graphs(model) for node in graph)


def _swallowed(verifier: Verifier, index: int, output: str) -> float:
    """What a sum of numbers of about 1 swallows, where all floats that an output is made of are tiny; 0 otherwise."""
    made_of = {value.name for result in verifier.model.graph.outputs if result.name == output for value in ancestors(result)}
    floats = _floats(verifier, index, made_of)
    return 1e-6 if floats and _largest(floats) < 1e-6 else 0.0


def _largest(floats: Iterable[np.ndarray]) -> float:
    """The largest finite number among the floats that go in."""
    return max((float(np.abs(array[np.isfinite(array)], dtype=np.float64).max(initial=0.0)) for array in floats), default=0.0)


def _floats(verifier: Verifier, index: int, names: Container[str | None] | None = None) -> list[np.ndarray]:
    """The floats of a sample, of all inputs or of those with ``names``."""
    sample = verifier.samples[index]
    chosen = [array for name, array in sample.items() if names is None or name in names]
    return [array for array in chosen if isinstance(array, np.ndarray) and array.dtype.kind == "f"]
