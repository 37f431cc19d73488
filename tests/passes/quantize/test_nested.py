"""Sites in branches, in the bodies of loops and in functions: weights are stored there too; what needs calibration says what it cannot see."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from graphwright.backends.ort.backend import OrtBackend
from graphwright.compiler.calibration.data import CalibrationData, Samples
from graphwright.compiler.calibration.engine import Engine
from graphwright.compiler.core.errors import TargetError

WIDTH = 64
BOTH = pytest.mark.parametrize("target", ["ort-cpu", "onnx"])
UNSEEN = "it is inside a subgraph (a branch or the body of a loop)"
TEXT = """<ir_version: 10, opset_import: ["" : 21, "local" : 1]>
g (bool c, float[4,64] x) => (float[4,64] y, float[4,64] z, float[4,64] u) {
    y = If (c) <then_branch = a () => (float[4,64] s) { s = MatMul(x, w0) },
                else_branch = b () => (float[4,64] t) { k = Gemm(x, w1, b1) r = Relu(k) t = MatMul(r, w2) }>
    z = Loop (n, c, x) <body = body (int64 i, bool go, float[4,64] state) => (bool on, float[4,64] next) { on = Identity(go) next = MatMul(state, w3) }>
    q = local.twice(x, w4)
    u = Relu(q)
}
<opset_import: ["" : 21], domain: "local"> twice (a, b) => (r) { p = MatMul(a, b) r = MatMul(p, b) }"""


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.fixture(scope="module")
def model() -> ir.Model:
    """Five matrices: two in a branch each, one more behind a Relu, one in a loop, one read twice in a function."""
    proto = onnx.parser.parse_model(TEXT)
    weights = {f"w{place}": noise(WIDTH, WIDTH, seed=place) / 8 for place in range(5)}
    for name, content in {**weights, "b1": noise(WIDTH, seed=9), "n": np.array(2)}.items():
        proto.graph.initializer.append(onnx.numpy_helper.from_array(content, name))
    return ir.from_proto(proto)


def feeds(chosen: bool) -> Mapping[str, np.ndarray]:
    return {"c": np.array(chosen), "x": noise(4, WIDTH, seed=10 + chosen)}


def calibrator() -> Engine:
    samples = [feeds(bool(place % 2)) for place in range(4)]
    return Engine(CalibrationData(Samples(samples, lambda item: item), "both branches"), OrtBackend())  # type: ignore[arg-type,return-value]


def off(model: ir.Model, small: ir.Model, run_twice: Callable) -> float:
    """The greatest relative difference of an output, whichever way is taken."""
    worst = 0.0
    for chosen in (True, False):
        exact = run_twice(model, feeds(chosen))[0]
        for found in run_twice(small, feeds(chosen)):
            worst = max(worst, *(float(np.linalg.norm(found[name] - old) / np.linalg.norm(old)) for name, old in exact.items()))
    return worst


@BOTH
@pytest.mark.parametrize(
    ("step", "form", "most"),
    [
        ("quantize-weights{bits=8,block=0}", "int8", 0.03), ("quantize-weights", "int4", 0.4), ("quantize-weights{method=nf4}", "nf4", 0.35),
        ("quantize-weights{method=fp8}", "fp8", 0.1), ("quantize-dynamic{format=u8s8}", "int8", 0.06), ("cast-half", "fp16", 2e-3),
        ("cast-half{dtype=bfloat16}", "bf16", 0.02), ("cast-half{compute=half}", "fp16", 5e-3),
    ],
)  # fmt: skip
def test_weights_are_compressed_wherever_they_stand(
    target: str, step: str, form: str, most: float, model: ir.Model, compress: Callable, run_twice: Callable
) -> None:
    small, context = compress(model, f"inline-functions,{step}", target)
    assert {record.form for record in context.coverage.records.values()} == {form}
    assert len(context.coverage.records) == 6
    assert 0 < off(model, small, run_twice) < most


@BOTH
@pytest.mark.parametrize("method", ["gptq", "awq", "signround", "lqer"])
def test_what_a_branch_reads_from_outside_is_seen_and_the_rest_said(
    target: str, method: str, model: ir.Model, compress: Callable, run_twice: Callable
) -> None:
    small, context = compress(model, f"inline-functions,quantize-weights{{bits=8,method={method}}}", target, calibrator=calibrator())
    records = context.coverage.records
    assert {name for name, record in records.items() if not record.form} == {"t", "next"}
    assert {records[name].why for name in ("t", "next")} == {UNSEEN}
    assert {record.method for record in records.values() if record.form} == {method}
    assert 0 < off(model, small, run_twice) < 0.03


@BOTH
def test_static_ranges_are_for_the_main_graph_and_the_coverage_says_so(target: str, model: ir.Model, compress: Callable, run_twice: Callable) -> None:
    small, context = compress(model, "inline-functions,quantize-static", target, calibrator=calibrator())
    left = {name: record.why for name, record in context.coverage.records.items() if not record.form}
    assert left.pop("u") == "nothing that computes on integers reads what it makes"
    assert set(left) == {"s", "k", "t", "next"}
    assert set(left.values()) == {"it stands in a subgraph, which calibration does not look into"}
    assert 0 < off(model, small, run_twice) < 0.05


def test_a_method_that_learns_through_the_graph_refuses_a_loop_by_name(model: ir.Model, compress: Callable) -> None:
    with pytest.raises(TargetError, match="Loop"):
        compress(model, "inline-functions,quantize-weights{method=cbq}", "onnx", calibrator=calibrator())
