"""How long a part takes on either backend, on the values that really reach it; measured once for each kind of part and machine."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from ..cache import hash_parts, hash_sources, machine
from ..core.backend import Array, Backend, Built, Progress, Runner, Sample
from ..core.errors import GraphwrightError
from ..kernel_choice import agree
from ..kernel_table import KernelTable, Timing, piece_key
from ..manifest import versions
from ..piece_samples import Unsized
from ..timing import compare_runs
from ..tolerance import is_float
from ..undecided import settled, undecided
from .cut import Part
from .flowing import Flow

__all__ = ["PartTimer", "reason_of"]

EACH_SECONDS = 0.3
MILLI = 1000.0
RULE = "part"
"""What the table of kernels calls a comparison of backends on a part of a model."""


class PartTimer:
    """Times parts of one model on a backend (``rival``) against the usual one, for which ``make_ready`` builds them.

    A part of the same operators, shapes and constants that was measured before on this machine, with this code, is looked up. One that the rival cannot
    build or run has none, and ``failures`` says why. ``state`` is what else decides how fast the rival is, as what it has learnt; ``remarks`` is what it
    said when it built.
    """

    def __init__(
        self,
        make_ready: Callable[[ir.Model], Built],
        rival: Backend,
        flow: Flow,
        table: KernelTable,
        progress: Progress,
        each_s: float = EACH_SECONDS,
        state: str = "",
    ) -> None:
        self.failures: list[str] = []
        self.remarks: list[str] = []
        self.measured = 0
        self._make_ready, self._rival = make_ready, rival
        self._flow, self._table, self._progress = flow, table, progress
        self._each_s = each_s
        self._place = hash_parts([machine(), *(f"{name} {version}" for name, version in sorted(versions().items())), hash_sources(), state])

    def time(self, part: Part) -> Timing | None:
        """The part under ``rival`` (after) against ``usual`` (before), milliseconds; None when the rival cannot run it."""
        try:
            key = hash_parts([self._place, RULE, piece_key(part.model, ({},))])
        except Unsized:
            return None
        known = self._table.find(key)
        if known is not None:
            return known
        found = self._measure(part)
        if found is not None:
            self._table.add(key, found)
        return found

    def _measure(self, part: Part) -> Timing | None:
        self._progress(f"timing a part of {part.model.graph.num_nodes()} operators on both backends")
        self.measured += 1
        try:
            feeds = self._flow.values(part.needs)
            one = self._make_ready(part.model)
            try:
                other = self._rival.build(part.model, (feeds,), self._progress)
                self.remarks.extend(other.remarks)
                if (fault := self._fault(part, other.runner, one.runner)) is not None:
                    other.runner.close()
                    self.failures.append(fault)
                    return None
                return self._compare(part, other.runner, one.runner, feeds)
            finally:
                one.runner.close()
        except Exception as error:  # Whatever a runtime says: the part stays where it is, and the report says why.
            self.failures.append(reason_of(error))
        return None

    def _fault(self, part: Part, rival: Runner, usual: Runner) -> str | None:
        """How the rival computes something else than the usual one; None when it does not seem to.

        How far numbers may differ is for the whole model to say: here the ordinary first sample must be about right, and NaN and infinity come out of all.
        """
        for place, feeds in enumerate(self._flow.each(part.needs)):
            expected, found = usual.run(feeds), rival.run(feeds)
            if place == 0 and not agree(expected, found):
                return f"it does not compute {', '.join(part.makes)} as ONNX Runtime does"
            if all(_same_holes(expected[name], found[name]) for name in expected):
                continue
            places = undecided(part.model, feeds, self._flow.reference)
            if not all(_same_holes(value, settled(value, found[name], places.get(name))) for name, value in expected.items()):
                return f"it does not make NaN and infinity of {', '.join(part.makes)} where ONNX Runtime does"
        return None

    def _compare(self, part: Part, rival: Runner, usual: Runner, feeds: Sample) -> Timing:
        """Both in turns, with what handing values over costs: that is what a part more in a model costs, too."""
        end = time.perf_counter() + self._each_s
        try:
            found = compare_runs(
                lambda: rival.run(feeds), lambda: usual.run(feeds), budget_s=self._each_s, min_rounds=6, enough=lambda _: time.perf_counter() > end
            )
        finally:
            rival.close()
        shapes = tuple(f"{value.dtype}{value.shape}" for value in part.model.graph.inputs)
        return Timing(RULE, shapes, found.median_b * MILLI, found.median_a * MILLI, found.ratio, found.low, found.high)


def _same_holes(one: Array, other: Array) -> bool:
    """Whether two results are NaN and infinite at the same places."""
    if not isinstance(one, np.ndarray) or not isinstance(other, np.ndarray) or not is_float(one.dtype):
        return True
    return bool(np.array_equal(np.isnan(one), np.isnan(other)) and np.array_equal(np.isinf(one), np.isinf(other)))


def reason_of(error: Exception) -> str:
    """Why something could not be built or run, on one line."""
    if isinstance(error, GraphwrightError):
        return str(error)
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or ['no reason given'])[0][:200]}"
