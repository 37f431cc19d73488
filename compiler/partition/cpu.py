"""The target ``cpu``: ONNX Runtime, TVM or both, whatever is measured to be fastest for a model.

It is no folder of ``backends``: no backend may know another, and what puts several of them to work stands above them.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import onnx_ir as ir

from ..core.backend import Backend, Built, Progress, Rival, Runner, Sample
from ..core.errors import BackendMissing
from ..core.target import Target
from ..kernel_table import open_table
from ..timing import over_samples
from .contest import RACE_SECONDS, RIVAL, USUAL, Contest, Limits, Plain
from .layout import Layout, read_layout
from .package import BuiltParts, open_parts, write_parts
from .part_timer import EACH_SECONDS
from .search import SEARCH_SECONDS

__all__ = ["CPU", "CpuBackend"]

CPU = "cpu"
CALLS = 5


class CpuBackend:
    """Serves the target ``cpu`` with ``ort`` and what ``find_tvm`` finds, which is asked when TVM is first needed: a text says why it is not there, and then
    everything runs with ``ort``. ``state`` tells what TVM has learnt so far: what was measured of a part before counts as long as that is the same.

    Parts are looked for during ``search_s`` seconds, each timed for ``each_s``; a finished rival races for ``race_s``.
    """

    name = CPU

    def __init__(
        self,
        ort: Plain,
        find_tvm: Callable[[], Backend | str],
        state: Callable[[], str] = str,
        *,
        search_s: float = SEARCH_SECONDS,
        each_s: float = EACH_SECONDS,
        race_s: float = RACE_SECONDS,
    ) -> None:
        self._ort = ort
        self._find_tvm = functools.cache(find_tvm)
        self._state = state
        self._table = functools.cache(open_table)
        self._limits = Limits(search_s, each_s, race_s)

    def targets(self) -> tuple[Target, ...]:
        """The target ``cpu``: the operators of ONNX Runtime on the CPU, for which what TVM runs is spelled out again."""
        usual = next(target for target in self._ort.targets() if target.name == USUAL)
        return (dataclasses.replace(usual, name=CPU, backend=CPU),)

    def reference(self, model: ir.Model) -> Runner:
        """The model under ONNX Runtime with every optimisation off: what it means."""
        return self._ort.reference(model)

    def baseline(self, model: ir.Model) -> Runner:
        """The model as everybody runs it today: ONNX Runtime's default options."""
        return self._ort.baseline(model)

    def build(self, model: ir.Model, samples: Sequence[Sample], progress: Progress) -> Built:
        """Make the model ready under ONNX Runtime, and see whether TVM runs all or parts of it faster. Its options are a `Layout`."""
        usual = self._ort.build(model, samples, progress)
        first = Rival("onnxruntime", _seconds(usual.runner, samples))
        tvm = self._find_tvm()
        if isinstance(tvm, str):
            return self._told(usual, usual, (dataclasses.replace(first, chosen=True),), (f"TVM was not tried: {tvm}",))
        contest = Contest(model, usual, samples, self.targets()[0], self._ort, tvm, self._table(), progress, self._limits, self._state())
        best = contest.run()
        first = dataclasses.replace(first, chosen=best is usual)
        return self._told(best, usual, (first, *contest.rivals), tuple(contest.notes))

    def package(self, built: Built, folder: Path) -> tuple[Path, ...]:
        """Write the whole model, the parts that run it where there are some, and run.py."""
        layout = read_layout(built.options)
        if isinstance(built, BuiltParts):
            written = write_parts(built, layout, self._find, folder)
            built.notes = tuple(dict.fromkeys(note for _, made in built.parts for note in made.notes))
            return written
        plain = dataclasses.replace(built, options=layout.whole)
        files = self._ort.package(plain, folder)
        built.notes = plain.notes
        return files

    def load(self, folder: Path, options: Mapping[str, object]) -> Runner:
        """Run what `package` wrote. Raises ArtifactError when the options are not ours, BackendMissing when a part needs what is not there."""
        layout = read_layout(options)
        if layout.runtime == "onnxruntime":
            return self._ort.load(folder, layout.whole)
        return open_parts(layout, self._find, folder)

    def _told(self, best: Built, usual: Built, rivals: tuple[Rival, ...], remarks: tuple[str, ...]) -> Built:
        """What ships, saying what else was tried."""
        options = best.options if isinstance(best, BuiltParts) else Layout(whole=usual.options).model_dump()
        rivalry = [{"changed": {"runtime": rival.name}, "chosen": True, "ratio": rival.ratio} for rival in rivals[1:] if rival.chosen]
        return dataclasses.replace(best, options=options, trials=(*usual.trials, *rivalry), rivals=rivals, remarks=remarks)

    def _find(self, place: str) -> Backend:
        if place == USUAL:
            return self._ort
        if place != RIVAL:
            raise BackendMissing(f"a part of this artifact is for the target {place}, which is not for this processor")
        tvm = self._find_tvm()
        if isinstance(tvm, str):
            raise BackendMissing(f"a part of this artifact runs under TVM, but {tvm}")
        return tvm


def _seconds(runner: Runner, samples: Sequence[Sample]) -> float:
    """About how long one pass over the samples takes."""
    if not samples:
        return 0.0
    timer = over_samples(runner, samples)
    timer(1)
    return min(timer(1) for _ in range(CALLS))
