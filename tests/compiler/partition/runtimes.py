"""Two runtimes for tests: both compute with ONNX Runtime; the usual one takes its time with some operators, the rival refuses others."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx_ir as ir

from graphwright.backends.ort.backend import OrtBackend
from graphwright.backends.ort.files import write_model
from graphwright.compiler.core.backend import Array, Built, Progress, Runner, Sample
from graphwright.compiler.core.graph import all_graphs

DELAY = 2e-3
"""Seconds."""


class Slowed:
    """A runner that waits before each run."""

    def __init__(self, runner: Runner, seconds: float) -> None:
        self.inputs, self.outputs = runner.inputs, runner.outputs
        self._runner, self._seconds = runner, seconds

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        time.sleep(self._seconds)
        return self._runner.run(feeds)

    def close(self) -> None:
        self._runner.close()


class Usual(OrtBackend):
    """ONNX Runtime that waits for each operator of the types ``slow``."""

    def __init__(self, *slow: str) -> None:
        super().__init__()
        self.slow = slow

    def baseline(self, model: ir.Model) -> Runner:
        return self._slowed(model, super().baseline(model))

    def build(self, model: ir.Model, samples: Sequence[Sample], progress: Progress) -> Built:
        built = super().build(model, (), progress)
        built.runner = self._slowed(model, built.runner)
        return built

    def open(self, model: ir.Model, options: Mapping[str, object]) -> Built:
        built = super().open(model, options)
        built.runner = self._slowed(model, built.runner)
        return built

    def _slowed(self, model: ir.Model, runner: Runner) -> Runner:
        count = sum(node.op_type in self.slow for graph in all_graphs(model) for node in graph)
        return Slowed(runner, DELAY * count) if count else runner


class Rival(OrtBackend):
    """ONNX Runtime again, without the operators ``lacks``; ``wrong`` adds to what it computes, ``hides`` makes numbers of NaN."""

    def __init__(self, *lacks: str, wrong: float = 0.0, hides: bool = False) -> None:
        super().__init__()
        self.lacks, self.wrong, self.hides = lacks, wrong, hides

    def refusal(self, node: ir.Node) -> str | None:
        return f"tvm does not take {node.op_type}" if node.op_type in self.lacks else None

    def build(self, model: ir.Model, samples: Sequence[Sample], progress: Progress) -> Built:
        assert not any(self.refusal(node) for node in model.graph), "it was given what it refuses"
        built = super().build(model, (), progress)
        if self.wrong:
            built.runner = Wrong(built.runner, self.wrong)
        if self.hides:
            built.runner = Blind(built.runner, 0.0)
        return built

    def package(self, built: Built, folder: Path) -> tuple[Path, ...]:
        return write_model(built.model, folder)


class Wrong(Slowed):
    """A runner whose numbers are off."""

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        return {name: value + self._seconds for name, value in self._runner.run(feeds).items()}


class Blind(Slowed):
    """A runner that makes numbers of NaN."""

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        return {name: np.nan_to_num(value, posinf=np.inf, neginf=-np.inf) for name, value in self._runner.run(feeds).items()}
