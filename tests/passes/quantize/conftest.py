"""What tests of quantisation run models with, and weights to quantise: planted or real, with statistics of their inputs and rows these have not seen."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest

from graphwright.compiler.core.graph import bind_opsets
from graphwright.compiler.core.passes import Context, parse_pipeline
from graphwright.compiler.core.sites import all_sites
from graphwright.compiler.core.statistics import SiteStatistics
from graphwright.compiler.core.wellformed import check
from graphwright.compiler.targets import find_target
from graphwright.models.language import entries

LEVELS = (onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL, onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL)
Run = Callable[[ir.Model, Mapping[str, np.ndarray]], list[dict[str, np.ndarray]]]
Compress = Callable[..., tuple[ir.Model, Context]]


@pytest.fixture(scope="session")
def run_twice() -> Run:
    """``run_twice(model, feeds)`` -> outputs by name, from ONNX Runtime without any optimisation and with its default ones."""

    def run(model: ir.Model, feeds: Mapping[str, np.ndarray]) -> list[dict[str, np.ndarray]]:
        found = []
        for level in LEVELS:
            options = onnxruntime.SessionOptions()
            options.graph_optimization_level = level
            options.intra_op_num_threads = 1
            options.log_severity_level = 4
            # A portable model says nothing of how exactly its products are to be computed: without this, the runtime rounds what goes into them.
            options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", "0")
            session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString(), options, providers=["CPUExecutionProvider"])
            names = [output.name for output in session.get_outputs()]
            found.append(dict(zip(names, session.run(names, dict(feeds)), strict=True)))
        return found

    return run


@pytest.fixture(scope="session")
def compress() -> Compress:
    """``compress(model, "pass{...}")`` -> the model after these passes, well formed, and what they were told; ``target`` is ort-cpu."""

    def run(model: ir.Model, pipeline: str, target: str = "ort-cpu", **told: object) -> tuple[ir.Model, Context]:
        copy = ir.from_proto(ir.to_proto(model))
        bind_opsets(copy)
        context = Context(find_target(target), **told)  # type: ignore[arg-type]
        for step in parse_pipeline(pipeline):
            step.run(copy, context)
        check(copy)
        onnx.checker.check_model(ir.to_proto(copy), full_check=target == "onnx")
        return copy, context

    return run


@pytest.fixture(scope="session")
def draw() -> Callable[..., ir.Model]:
    """``draw(text, w=array, ...)`` -> the model of the text, opset 21, with these initialisers."""

    def make(text: str, opset: int = 21, **initialisers: np.ndarray) -> ir.Model:
        proto = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : {opset}]>\n{text}')
        proto.graph.initializer.extend(onnx.numpy_helper.from_array(content, name) for name, content in initialisers.items())
        return ir.from_proto(proto)

    return make


@dataclass(frozen=True)
class Case:
    """A weight [K, M], what calibration knows of its input, and unseen rows of that input [N, K]."""

    weight: np.ndarray
    statistics: SiteStatistics
    unseen: np.ndarray

    def error(self, found: np.ndarray) -> float:
        """``|| X W - X W^ || / || X W ||`` on the unseen rows."""
        unseen = self.unseen.astype(np.float64)
        return float(np.linalg.norm(unseen @ (self.weight - found)) / np.linalg.norm(unseen @ self.weight))


def statistics_of(rows: np.ndarray) -> SiteStatistics:
    """Statistics of an input X [N, K]."""
    wide = rows.astype(np.float64)
    return SiteStatistics(
        wide.T @ wide / len(rows), wide.min(0), wide.max(0), np.abs(wide).max(0), np.abs(wide).mean(0), wide.mean(0), rows.astype(np.float32), len(rows)
    )


def plant(inputs: int = 96, outputs: int = 48, seed: int = 0, outliers: int = 3) -> Case:
    """Correlated inputs, a few of them thirty times as large, and a weight with heavy tails."""
    random = np.random.default_rng(seed)
    mixing = random.standard_normal((max(2, inputs // 3), inputs)) + 0.3 * random.standard_normal((1, inputs))
    rows = random.standard_normal((1200, len(mixing))) @ mixing + 0.3 * random.standard_normal((1200, inputs))
    rows[:, random.choice(inputs, min(outliers, inputs), replace=False)] *= 30.0
    weight = 0.05 * random.standard_t(5, (inputs, outputs))
    return Case(weight.astype(np.float32), statistics_of(rows[:800]), rows[800:])


@pytest.fixture(scope="session")
def planted() -> Callable[..., Case]:
    """``planted(inputs, outputs, seed, outliers)``: see `plant`."""
    return plant


@pytest.fixture(scope="session")
def case_of() -> Callable[[np.ndarray, np.ndarray], Case]:
    """``case_of(weight, rows)``: the statistics are those of ``rows`` themselves."""
    return lambda weight, rows: Case(weight.astype(np.float32), statistics_of(rows), rows)


@pytest.fixture(scope="session")
def llama_cases(shared: Path) -> list[Case]:
    """Four sites of llama_260k (64 x 64, 64 x 172 twice, 172 x 64) on its own text, calibration and report rows apart; skips without it."""
    entry = next(entry for entry in entries() if entry.name == "llama_260k")
    assert entry.path is not None
    path = shared / entry.path
    sites = [site for site in all_sites(ir.load(path)) if site.kind == "MatMul"][10:14]
    names = [site.data.name for site in sites]
    proto = onnx.load(path)
    proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in dict.fromkeys(names))
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    seen, unseen = ([session.run(names, dict(feeds)) for feeds in entry.feeds(12, split)] for split in ("calibration", "report"))
    return [
        Case(site.matrices()[0], statistics_of(_rows(seen, index)), _rows(unseen, index)) for index, site in enumerate(sites)
    ]  # fmt: skip


def _rows(runs: list[list[np.ndarray]], index: int) -> np.ndarray:
    return np.concatenate([run[index].reshape(-1, run[index].shape[-1]) for run in runs])
