"""Which of several kernels to use, decided by timing them on this machine at the model's own sizes."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx_ir as ir

from .cache import hash_parts, machine
from .core.backend import Array, Progress, Runner, Sample
from .core.judge import Span
from .core.reasons import Skip, skip
from .core.timing import FEWEST_ROUNDS, Clock, Comparison
from .kernel_table import GAIN, KernelTable, Timing, piece_key
from .manifest import versions
from .piece_samples import Sizes, Unsized, bind_sizes, make_sample, sized
from .request import silent
from .timing import compare_runners
from .tolerance import is_float

__all__ = ["KernelChoice", "agree"]

EACH_SECONDS = 0.3
TOTAL_SECONDS = 20.0
PATIENCE = 3
NARROW = 0.1
"""Width of the interval of a ratio; a race whose interval is wider may take `PATIENCE` times as long, for its answer is remembered."""
MOST_BYTES = 1 << 29
"""Weights of a piece: the runtime makes its own copy of them, for each of two sessions."""
MILLI = 1000.0
DIFFERENT = skip("it does not compute the same as what it replaces on made-up inputs")
Open = Callable[[ir.Model], Runner]
"""Makes a model ready with the runtime's default options."""
Agree = Callable[[Mapping[str, Array], Mapping[str, Array]], bool]
"""Whether what two pieces make of the same inputs shows that they compute the same."""


class KernelChoice:
    """A `judge.Judge` that lets a rule fire only where its replacement is measured to pay.

    A match and its replacement run as two small models on made-up inputs, in turns. A doubtful replacement wins when the whole 95 % interval of the
    ratio lies below 1, and its middle by 2 %; any other unless the whole interval lies above 1. What was measured is remembered in ``table``, and
    every answer for as long as this object lives, so that a pass that runs again makes the same choices. After ``total_s`` seconds nothing more is
    measured; what is not known then, or cannot be timed, is refused if it is doubtful.
    """

    def __init__(
        self,
        open_model: Open,
        table: KernelTable,
        progress: Progress = silent,
        *,
        each_s: float = EACH_SECONDS,
        total_s: float = TOTAL_SECONDS,
        clock: Clock = time.perf_counter,
        hardware: str = "",
    ) -> None:
        self.timings: list[Timing] = []
        """What was decided by timing, in the order it was first asked for."""
        self._open = open_model
        self._table = table
        self._progress = progress
        self._each_s, self._left, self._clock = each_s, total_s, clock
        self._total_s = total_s
        self._sizes: tuple[Sizes, ...] = ({},)
        self._samples: tuple[Sample, ...] = ()
        self._answers: dict[str, Skip | None] = {}
        place = [machine(), versions().get("onnxruntime", "")]
        self._place = hash_parts([*place, hardware] if hardware else place)

    def begin(self, model: ir.Model, samples: Sequence[Sample]) -> None:
        """Judge pieces of this model, or of clones of it, at the sizes that these samples have."""
        self._sizes = bind_sizes(model, samples)
        self._samples = tuple(samples)

    def refusal(self, rule: str, before: ir.Model, after: ir.Model, doubtful: bool) -> Skip | None:
        """Why the replacement is not worth it; None when it is."""
        return self._answer(rule, before, after, doubtful, agree)

    def slower(self, rule: str, before: ir.Model, after: ir.Model) -> Skip | None:
        """As `judge.Judge.slower`."""
        return self._answer(rule, before, after, True, _alike)

    def ratio(self, before: ir.Model, after: ir.Model) -> Span | None:
        """As `judge.Judge.ratio`: whole models, on the samples that were told of last, however much time is left for kernels."""
        if max(map(_weight_bytes, (before, after))) > MOST_BYTES or not self._samples:
            return None
        try:
            one = self._open(before)
            try:
                other = self._open(after)
                try:
                    found = compare_runners(other, one, self._samples, budget_s=PATIENCE * self._each_s, min_rounds=FEWEST_ROUNDS, enough=_narrow)
                finally:
                    other.close()
            finally:
                one.close()
        except Exception:  # Whatever the runtime says: who asks can do without an answer.
            return None
        return Span(found.ratio, found.low, found.high)

    def _answer(self, rule: str, before: ir.Model, after: ir.Model, doubtful: bool, agree: Agree) -> Skip | None:
        try:
            key = hash_parts([self._place, rule, piece_key(before, self._sizes), piece_key(after, self._sizes)])
        except Unsized as reason:
            return skip("it cannot be timed: %s", reason) if doubtful else None
        if key not in self._answers:
            self._answers[key] = self._decide(key, rule, before, after, doubtful, agree)
        return self._answers[key]

    def _decide(self, key: str, rule: str, before: ir.Model, after: ir.Model, doubtful: bool, agree: Agree) -> Skip | None:
        timing = self._table.find(key)
        if timing is None:
            if self._left <= 0:
                return skip("it was not timed: the %.0f s for timing kernels are spent", self._total_s) if doubtful else None
            found = self._measure(rule, before, after, agree)
            if isinstance(found, Skip):
                return found if doubtful or found is DIFFERENT else None
            timing = found
            self._table.add(key, timing)
        timing = dataclasses.replace(timing, chosen=timing.gains if doubtful else timing.low <= 1.0)
        self.timings.append(timing)
        if timing.chosen:
            return None
        return skip("it is not faster here: %.3g ms instead of %.3g ms (%.2f to %.2f times)", timing.after_ms, timing.before_ms, timing.low, timing.high)

    def _measure(self, rule: str, before: ir.Model, after: ir.Model, agree: Agree) -> Timing | Skip:
        shapes = tuple(f"{value.dtype}{list(sized(value, self._sizes[0]))}" for value in before.graph.inputs)
        self._progress(f"timing {rule} at {', '.join(shapes)}")
        start = self._clock()
        try:
            found = self._race(before, after, agree)
        except Unsized as reason:
            return skip("it cannot be timed: %s", reason)
        except Exception as error:  # Whatever a kernel says about made-up inputs: the rule can do without an answer.
            return skip("it cannot be timed: %s", (str(error).strip().splitlines() or [type(error).__name__])[0][:200])
        finally:
            self._left -= self._clock() - start
        if isinstance(found, Skip):
            return found
        return Timing(rule, shapes, found.median_b * MILLI, found.median_a * MILLI, found.ratio, found.low, found.high)

    def _race(self, before: ir.Model, after: ir.Model, agree: Agree) -> Comparison | Skip:
        if max(map(_weight_bytes, (before, after))) > MOST_BYTES:
            return skip("its weights are too large to open it twice")
        samples = [make_sample(before, sizes) for sizes in self._sizes]
        one = self._open(before)
        try:
            other = self._open(after)
            try:
                if _reads(before) == _reads(after) and not agree(one.run(samples[0]), other.run(samples[0])):
                    return DIFFERENT
                return self._compare(other, one, samples)
            finally:
                other.close()
        finally:
            one.close()

    def _compare(self, after: Runner, before: Runner, samples: Sequence[Sample]) -> Comparison:
        """Race until the answer is clear or the time for one race is spent; where the machine is noisy, for up to three times as long."""
        end = self._clock() + self._each_s

        def enough(comparison: Comparison) -> bool:
            return _decided(comparison) or (_narrow(comparison) and self._clock() >= end)

        return compare_runners(after, before, samples, budget_s=min(PATIENCE * self._each_s, self._left), min_rounds=FEWEST_ROUNDS, enough=enough)


def _narrow(comparison: Comparison) -> bool:
    """Whether more rounds would hardly make the interval narrower."""
    return comparison.high - comparison.low < NARROW


def _decided(comparison: Comparison) -> bool:
    """Whether the replacement is faster, or can gain too little to be chosen."""
    return comparison.a_is_faster or comparison.low > 1.0 - GAIN


def _weight_bytes(piece: ir.Model) -> int:
    return sum(value.const_value.nbytes for value in piece.graph.initializers.values() if value.const_value is not None)


def _reads(piece: ir.Model) -> set[str | None]:
    """The inputs a piece looks at: made-up inputs only mean the same to two pieces that look at the same ones."""
    return {value.name for value in piece.graph.inputs if value.uses()}


def agree(before: Mapping[str, Array], after: Mapping[str, Array]) -> bool:
    """Whether two pieces seem to compute the same, by what they make of the same inputs."""
    return all(_close(before[name], after.get(name)) for name in before)


def _alike(before: Mapping[str, Array], after: Mapping[str, Array]) -> bool:
    """What a compressed piece owes: numbers, and as many of them."""
    return all(_same_form(before[name], after.get(name)) for name in before)


def _same_form(before: Array, after: Array) -> bool:
    if not isinstance(before, np.ndarray) or not isinstance(after, np.ndarray) or before.shape != after.shape or before.dtype != after.dtype:
        return False
    return not is_float(before.dtype) or bool(np.isfinite(after.astype(np.float32)).all() or not np.isfinite(before.astype(np.float32)).all())


def _close(before: Array, after: Array) -> bool:
    """Far looser than any contract, which the manager checks: this only tells a kernel that computes from one that does not."""
    if not isinstance(before, np.ndarray) or not isinstance(after, np.ndarray) or before.shape != after.shape or before.dtype != after.dtype:
        return False
    if not is_float(before.dtype):
        return bool((before == after).all())
    old, new = before.astype(np.float64), after.astype(np.float64)
    finite = np.isfinite(old) & np.isfinite(new)
    allowed = np.sqrt(_eps(before.dtype)) * np.abs(old[finite]).max(initial=0.0)
    return bool((np.abs(old[finite] - new[finite]) <= allowed).all())


def _eps(dtype: np.dtype) -> float:
    import ml_dtypes

    return float(ml_dtypes.finfo(dtype).eps)
