"""quantize-weights with a sparsity: zeros and codes of one sweep, in every form that a weight has."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir
import pytest

from graphwright.backends.ort.backend import OrtBackend
from graphwright.compiler.calibration.engine import Engine
from graphwright.compiler.calibration.opening import open_calibration
from graphwright.compiler.core.errors import UsageError
from graphwright.passes.prune.unstructured.pattern import parse_pattern, within

TEXT = """g (float[N,64] x, float[N,32,6,6] z) => (float[N,24] y, float[N,16,6,6] c, float[N,16,4,4] k) {
    a = MatMul(x, w) r = Relu(a) y = Gemm<transB=1>(r, v) c = Conv(z, p) k = Conv(z, q) }"""
OPTIONS = "quantize-weights{{bits={},block=32,method=gptq,accuracy_level=0,sparsity={}}}"


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def given(draw: Callable) -> tuple[ir.Model, Engine]:
    model = draw(TEXT, w=noise(64, 48), v=noise(24, 48, seed=1), p=noise(16, 32, 1, 1, seed=2), q=noise(16, 32, 3, 3, seed=3))
    data = [{"x": noise(16, 64, seed=seed), "z": noise(16, 32, 6, 6, seed=seed)} for seed in range(4, 8)]
    return model, Engine(open_calibration(data, model), OrtBackend())


def zeros(model: ir.Model, run: Callable, width: int) -> np.ndarray:
    """The weight of the first product as the compressed model has it, from what it makes of a unit matrix."""
    found = run(model, {"x": np.eye(width, dtype=np.float32), "z": np.zeros((width, 32, 6, 6), np.float32)})[0]
    return np.asarray(found["a"])


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("sparsity", ["0.5", "2:4"])
def test_zeros_are_where_the_pattern_has_them(sparsity: str, bits: int, draw: Callable, compress: Callable, run_twice: Callable) -> None:
    model, engine = given(draw)
    small, context = compress(model, OPTIONS.format(bits, sparsity), calibrator=engine)
    value = next(node.outputs[0] for node in small.graph if node.outputs[0].name == "a")
    value.type, value.shape = ir.TensorType(ir.DataType.FLOAT), ir.Shape(["N", 48])
    small.graph.outputs.append(value)
    found = zeros(small, run_twice, 64)
    assert within(np.abs(found) > 1e-6, parse_pattern(sparsity))
    assert (np.abs(found) < 1e-6).mean() == pytest.approx(0.5, abs=0.02 if sparsity == "0.5" else 0.06)
    methods = {name: record.method for name, record in context.coverage.records.items()}
    assert methods == {"a": "sparsegpt", "y": "sparsegpt", "c": "sparsegpt", "k": "sparsegpt" if sparsity == "0.5" else "gptq"}


def test_answers_are_those_of_the_same_model_whichever_way_it_is_run(draw: Callable, compress: Callable, run_twice: Callable) -> None:
    model, engine = given(draw)
    small, _ = compress(model, OPTIONS.format(8, "0.3"), calibrator=engine)
    feeds = {"x": noise(5, 64, seed=9), "z": noise(5, 32, 6, 6, seed=9)}
    exact, found = (run_twice(each, feeds)[0] for each in (model, small))
    for name, answer in exact.items():
        assert np.square(found[name] - answer).sum() < 0.3 * np.square(answer).sum(), name


@pytest.mark.parametrize(("options", "said"), [("sparsity=0.5", "sweep of gptq, and rtn has none"), ("method=gptq,sparsity=3", "no part of the weights")])
def test_what_cannot_be_had_is_refused(options: str, said: str, draw: Callable, compress: Callable) -> None:
    model, engine = given(draw)
    with pytest.raises(UsageError, match=said):
        compress(model, f"quantize-weights{{{options}}}", calibrator=engine)
