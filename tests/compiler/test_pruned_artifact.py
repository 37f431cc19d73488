"""What is left of a pruned model is an ordinary file: every runtime loads it and answers the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx.reference import ReferenceEvaluator

import graphwright
from graphwright.compiler.driver import compile_model
from graphwright.compiler.request import Request
from graphwright.models.tiny import find_tiny

from .compressing import mlp, rows

NEAR = {"rtol": 1e-3, "atol": 1e-4}
OPTIONS = ({"prune": "0.3"}, {"prune": "0.3,of=parameters", "sparsity": "0.6,method=magnitude"}, {"rank": "0.5"})
FAMILIES = ("bert", "llama", "resnet")


def made(source: object, samples: list[dict[str, np.ndarray]], place: Path, **asked: str) -> list[dict[str, np.ndarray]]:
    """Compile into a folder; what the artifact answers there."""
    with compile_model(source, samples, Request(target="onnx", level=1, size=True, cache=False, calibration="random", output=place, **asked)) as artifact:
        assert artifact.report.reduction is not None
        return [{name: np.asarray(item) for name, item in artifact.run(sample).items()} for sample in samples]


def answers_alike(place: Path, samples: list[dict[str, np.ndarray]], expected: list[dict[str, np.ndarray]]) -> None:
    """Under ONNX Runtime with and without its optimisations, under ONNX's own evaluator, and from the folder."""
    proto = onnx.load(place / "model.onnx")
    onnx.checker.check_model(proto, full_check=True)
    evaluator, options = ReferenceEvaluator(proto), ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    sessions = [ort.InferenceSession(str(place / "model.onnx"), chosen, providers=["CPUExecutionProvider"]) for chosen in (None, options)]
    with graphwright.load(place) as loaded:
        for sample, answers in zip(samples, expected, strict=True):
            names = list(answers)
            found = [dict(zip(names, run.run(names, sample), strict=True)) for run in (*sessions, evaluator)]
            for other in (*found, loaded.run(sample)):
                for name, item in answers.items():
                    np.testing.assert_allclose(other[name], item, **NEAR)


@pytest.mark.parametrize("asked", OPTIONS, ids=lambda asked: "+".join(asked))
def test_a_reduced_model_answers_the_same_everywhere(tmp_path: Path, asked: dict[str, str]) -> None:
    samples = [{"x": rows(8, seed)} for seed in range(3)]
    answers_alike(tmp_path / "out", samples, made(mlp(layers=4), samples, tmp_path / "out", **asked))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_pruned_architecture_answers_the_same_everywhere(tmp_path: Path, family: str) -> None:
    tiny = find_tiny(family)
    samples = [tiny.arrays(seed=seed) for seed in range(2)]
    answers_alike(tmp_path / "out", samples, made(tiny.export(tmp_path), samples, tmp_path / "out", prune="0.3"))


@pytest.mark.slow
def test_tvm_builds_a_pruned_model_as_any_other(tmp_path: Path) -> None:
    pytest.importorskip("tvm")
    samples = [{"x": rows(8, 0)}]
    (expected,) = made(mlp(layers=4), samples, tmp_path / "out", prune="0.3")
    with compile_model(tmp_path / "out" / "model.onnx", samples, Request(target="tvm-cpu", level=1, cache=False)) as artifact:
        for name, item in artifact.run(samples[0]).items():
            np.testing.assert_allclose(item, expected[name], **NEAR)
