"""The calibration engine says of a model's values what numpy says of them."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from graphwright.backends.ort.backend import OrtBackend
from graphwright.compiler.calibration.engine import Engine
from graphwright.compiler.calibration.opening import open_calibration
from graphwright.compiler.core.graph import bind_opsets
from graphwright.compiler.core.sites import all_sites
from graphwright.compiler.core.statistics import SiteStatistics


def read(text: str, **weights: np.ndarray) -> ir.Model:
    """A model from ONNX text; ``weights`` are its initialisers."""
    proto = onnx.parser.parse_model(text)
    proto.graph.initializer.extend(onnx.numpy_helper.from_array(array, name) for name, array in weights.items())
    model = ir.from_proto(proto)
    bind_opsets(model)
    return model


def engine(model: ir.Model, samples: list[dict[str, np.ndarray]], **options: int) -> Engine:
    """An engine on samples in memory."""
    return Engine(open_calibration(samples, model), OrtBackend(), **options)


def expect(found: SiteStatistics, rows: np.ndarray) -> None:
    """The statistics are those of X = ``rows`` [N, K]."""
    exact = rows.astype(np.float64)
    assert found.count == len(rows)
    np.testing.assert_allclose(found.moment, exact.T @ exact / len(rows), rtol=1e-12, atol=1e-13)
    np.testing.assert_array_equal(found.low, exact.min(axis=0))
    np.testing.assert_array_equal(found.high, exact.max(axis=0))
    np.testing.assert_array_equal(found.abs_max, np.abs(exact).max(axis=0))
    np.testing.assert_allclose(found.abs_mean, np.abs(exact).mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(found.mean, exact.mean(axis=0), rtol=1e-9, atol=1e-13)


MATMUL = """<ir_version: 9, opset_import: ["" : 17]>
g (float[n, t, 5] x) => (float[n, t, 3] y) { y = MatMul(x, w) }"""


def test_a_matmul_sees_the_rows_of_its_input() -> None:
    rng = np.random.default_rng(0)
    model = read(MATMUL, w=rng.standard_normal((5, 3), dtype=np.float32))
    samples = [{"x": rng.standard_normal((2, length, 5), dtype=np.float32)} for length in (4, 1, 7)]
    ((site, statistics),) = engine(model, samples).sites(model, list(all_sites(model)))
    assert site.kind == "MatMul"
    expect(statistics[0], np.concatenate([sample["x"].reshape(-1, 5) for sample in samples]))


def test_a_conv_sees_patches_that_give_its_output() -> None:
    rng = np.random.default_rng(1)
    text = """<ir_version: 9, opset_import: ["" : 17]>
    g (float[n, 4, h, w] x) => (float[n, 6, a, b] y) {
      y = Conv<group = 2, kernel_shape = [3, 2], strides = [2, 1], dilations = [1, 2], pads = [1, 0, 2, 3]>(x, k)
    }"""
    weight = rng.standard_normal((6, 2, 3, 2), dtype=np.float32)
    model = read(text, k=weight)
    sample = {"x": rng.standard_normal((2, 4, 7, 5), dtype=np.float32)}
    ((site, statistics),) = engine(model, [sample]).sites(model, list(all_sites(model)), rows=10_000)
    output = next(engine(model, [sample]).outputs(model))["y"]
    assert isinstance(output, np.ndarray)
    matrices = site.matrices()
    for group, found in enumerate(statistics):
        expected = output[:, 3 * group : 3 * group + 3].transpose(0, 2, 3, 1).reshape(-1, 3)
        np.testing.assert_allclose(found.rows @ matrices[group], expected, rtol=1e-5, atol=1e-5)
        expect(found, found.rows)


def test_sites_of_one_input_share_their_statistics() -> None:
    text = """<ir_version: 9, opset_import: ["" : 17]>
    g (float[n, 4] x) => (float[n, 2] y, float[n, 3] z) { y = MatMul(x, a)  z = Gemm(x, b) }"""
    rng = np.random.default_rng(2)
    model = read(text, a=rng.standard_normal((4, 2), dtype=np.float32), b=rng.standard_normal((4, 3), dtype=np.float32))
    found = dict(engine(model, [{"x": rng.standard_normal((5, 4), dtype=np.float32)}]).sites(model, list(all_sites(model))))
    first, second = found.values()
    assert first[0] is second[0]


@pytest.mark.parametrize("budget", [1, 1 << 30])
def test_ranges_are_those_of_the_values_however_they_are_grouped(budget: int) -> None:
    text = """<ir_version: 9, opset_import: ["" : 17]>
    g (float[n] x) => (float[n] y) { a = Neg(x)  b = Exp(a)  y = Add(a, b) }"""
    model = read(text)
    rng = np.random.default_rng(3)
    samples = [{"x": rng.standard_normal(size, dtype=np.float32)} for size in (1, 40, 3)]
    found = engine(model, samples, budget=budget).ranges(model, ["x", "a", "b", "y"])
    everything = np.concatenate([sample["x"] for sample in samples])
    assert (found["x"].low, found["x"].high) == (everything.min(), everything.max())
    assert (found["a"].low, found["a"].high) == (-everything.max(), -everything.min())
    assert found["b"].histogram.counts.sum() == len(everything)
