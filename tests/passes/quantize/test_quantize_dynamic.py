"""Products in integers, with activations rounded when they come."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir
import pytest

from graphwright.compiler.core.errors import UsageError
from graphwright.compiler.core.graph import all_graphs
from graphwright.compiler.core.judge import Willing
from graphwright.compiler.core.reasons import Skip, skip
from graphwright.compiler.core.sites import Site
from graphwright.compiler.core.statistics import SiteStatistics
from graphwright.passes.quantize.grid import Grid
from graphwright.passes.quantize.outlying import block_error, tensor_error
from graphwright.passes.quantize.rtn import Rtn

TWO = ("ort-cpu", "onnx")


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def rounded(weight: np.ndarray, bits: int = 8) -> np.ndarray:
    return Rtn().quantize(weight, None, Grid(bits, True, 0, narrow=True)).matrix()


def as_it_comes(data: np.ndarray) -> np.ndarray:
    """What DynamicQuantizeLinear makes of the data, as floats again."""
    low, high = min(float(data.min()), 0.0), max(float(data.max()), 0.0)
    scale = np.float32((high - low) / 255) if high > low else np.float32(1)
    zero = np.clip(np.rint(-low / scale), 0, 255)
    return ((np.clip(np.rint(data / scale) + zero, 0, 255) - zero) * scale).astype(np.float32)


def operators(model: ir.Model) -> Counter[str]:
    return Counter(node.op_type for graph in all_graphs(model) for node in graph)


@pytest.mark.parametrize("target", TWO)
@pytest.mark.parametrize(("rows", "columns"), [(70, 24), (1, 5), (33, 1)])
@pytest.mark.parametrize("lead", [(2, 3), (0,), (1,), ()])
def test_a_product_is_that_of_what_was_rounded(
    lead: tuple[int, ...], rows: int, columns: int, target: str, draw: Callable, compress: Callable, run_twice: Callable
) -> None:
    weight, bias = noise(rows, columns), noise(columns, seed=1)
    dims = "".join(f"D{place}," for place in range(len(lead)))
    model = draw(f"g (float[{dims}{rows}] x) => (float[{dims}{columns}] y) {{ p = MatMul(x, w) y = Add(b, p) }}", w=weight, b=bias)
    small, context = compress(model, "quantize-dynamic{format=u8s8}", target)
    data = noise(*lead, rows, seed=2)
    expected = (as_it_comes(data) if data.size else data) @ rounded(weight) + bias
    for found in run_twice(small, {"x": data}):
        np.testing.assert_allclose(found["y"], expected, rtol=0, atol=1e-5 * np.abs(expected).max(initial=1.0))
    assert context.coverage.taken == 1
    assert operators(small)["MatMulIntegerToFloat" if target == "ort-cpu" else "MatMulInteger"] == 1


@pytest.mark.parametrize("target", TWO)
def test_data_of_one_number_only_is_fine(target: str, draw: Callable, compress: Callable, run_twice: Callable) -> None:
    weight = noise(16, 4)
    small, _ = compress(draw("g (float[N,16] x) => (float[N,4] y) { y = MatMul(x, w) }", w=weight), "quantize-dynamic{format=u8s8}", target)
    for number in (0.0, 3.0, -2.0):
        data = np.full((2, 16), number, np.float32)
        for found in run_twice(small, {"x": data}):
            np.testing.assert_allclose(found["y"], data @ rounded(weight), atol=1e-4)


def test_sites_with_the_same_data_share_its_rounding(draw: Callable, compress: Callable) -> None:
    model = draw("g (float[N,16] x) => (float[N,4] y, float[N,4] z) { y = MatMul(x, w) z = MatMul(x, v) }", w=noise(16, 4), v=noise(16, 4, seed=1))
    small, _ = compress(model, "quantize-dynamic,eliminate-common-subexpressions")
    assert operators(small) == Counter({"MatMulIntegerToFloat": 2, "DynamicQuantizeLinear": 1})


def test_weights_stay_within_seven_bits_where_the_kernels_would_saturate(draw: Callable, compress: Callable, run_twice: Callable) -> None:
    weight, data = noise(64, 8), noise(5, 64, seed=2)
    small, _ = compress(draw("g (float[N,64] x) => (float[N,8] y) { y = MatMul(x, w) }", w=weight), "quantize-dynamic{format=u8s7}")
    (codes,) = (value.const_value.numpy() for value in small.graph.initializers.values() if value.dtype is ir.DataType.INT8 and value.const_value is not None)
    assert np.abs(codes).max() == 63
    for found in run_twice(small, {"x": data}):
        np.testing.assert_allclose(found["y"], as_it_comes(data) @ rounded(weight, 7), atol=1e-4)


@pytest.mark.parametrize("target", TWO)
def test_an_embedding_is_stored_as_bytes(target: str, draw: Callable, compress: Callable, run_twice: Callable) -> None:
    table = noise(20, 12)
    small, context = compress(draw("g (int64[N] i) => (float[N,12] y) { y = Gather(w, i) }", w=table), "quantize-dynamic", target)
    assert context.coverage.records["y"].bits < 13
    expected = rounded(np.ascontiguousarray(table.T)).T
    for found in run_twice(small, {"i": np.array([0, 19, -1])}):
        np.testing.assert_allclose(found["y"], expected[[0, 19, -1]], atol=1e-6)


@pytest.mark.parametrize(
    ("shape", "attributes"),
    [((6, 4, 3, 3), "pads=[1,1,1,1]"), ((6, 2, 3, 3), "group=2, strides=[2,2]"), ((4, 1, 3, 3), "group=4, pads=[1,0,1,0], dilations=[2,1]")],
)
def test_a_convolution_is_that_of_what_was_rounded(shape: tuple[int, ...], attributes: str, draw: Callable, compress: Callable, run_twice: Callable) -> None:
    weight, bias, data = noise(*shape), noise(shape[0], seed=1), noise(2, 4, 9, 9, seed=2) + 1
    text = f"g (float[N,4,9,9] x) => (float[N,C,H,W] y) {{ y = Conv<{attributes}>(x, w, b) }}"
    small, context = compress(draw(text, w=weight, b=bias), "quantize-dynamic{format=u8s8,small=true}")
    assert context.coverage.records["y"].form == "int8"
    dense = rounded(weight.reshape(shape[0], -1).T).T.reshape(shape)
    expected = run_twice(draw(text, w=dense.copy(), b=bias), {"x": as_it_comes(data)})[0]["y"]
    for found in run_twice(small, {"x": data}):
        np.testing.assert_allclose(found["y"], expected, atol=2e-4)


def test_a_convolution_that_nobody_timed_stays(draw: Callable, compress: Callable) -> None:
    model = draw("g (float[N,4,8,8] x) => (float[N,6,6,6] y) { y = Conv(x, w) }", w=noise(6, 4, 3, 3))
    small, context = compress(model, "quantize-dynamic")
    assert operators(small) == Counter({"Conv": 1})
    assert "nothing was timed" in context.coverage.records["y"].why
    assert compress(model, "quantize-dynamic", judge=Willing())[1].coverage.taken == 1


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
def test_an_lstm_of_bytes_computes_nearly_the_same(direction: str, draw: Callable, compress: Callable, run_twice: Callable) -> None:
    ways, hidden = 2 if direction == "bidirectional" else 1, 6
    weights = {"w": noise(ways, 4 * hidden, 5) * 0.3, "r": noise(ways, 4 * hidden, hidden, seed=1) * 0.3, "b": noise(ways, 8 * hidden, seed=2) * 0.1}
    text = f"""g (float[S,B,5] x, float[{ways},B,6] h, float[{ways},B,6] c) => (float[S,{ways},B,6] y, float[{ways},B,6] last) {{
        y, last, cell = LSTM<hidden_size=6, direction="{direction}">(x, w, r, b, , h, c)
    }}"""
    model = draw(text, **weights)
    small, context = compress(model, "quantize-dynamic{small=true}")
    assert operators(small) == Counter({"DynamicQuantizeLSTM": 1})
    assert context.coverage.records["y"].bits < 20
    feeds = {"x": noise(7, 2, 5, seed=3), "h": noise(ways, 2, 6, seed=4), "c": noise(ways, 2, 6, seed=5)}
    before = run_twice(model, feeds)[0]
    for found in run_twice(small, feeds):
        for name in ("y", "last"):
            assert np.linalg.norm(found[name] - before[name]) < 0.02 * np.linalg.norm(before[name])


@dataclass
class Fed:
    """A calibrator that has seen these rows at every site."""

    rows: np.ndarray
    samples: int = 1
    unseen: dict[str, str] = field(default_factory=dict)

    def sites(self, model: ir.Model, sites: Sequence[Site], *, moments: bool = True, rows: int = 0) -> Iterator[tuple[Site, list[SiteStatistics]]]:
        for site in sites:
            x = self.rows.astype(np.float64)
            most = np.abs(x).max(axis=0)
            yield site, [SiteStatistics(np.zeros((0, 0)), x.min(axis=0), x.max(axis=0), most, np.abs(x).mean(axis=0), x.mean(axis=0), self.rows, len(x))]


def with_outliers() -> np.ndarray:
    data = noise(64, 128, seed=2)
    data[:, 5] *= 200
    return data


def test_data_with_outliers_is_rounded_block_by_block(draw: Callable, compress: Callable, run_twice: Callable) -> None:
    weight, data = noise(128, 16), with_outliers()
    weight[5] *= 0.01
    model = draw("g (float[N,128] x) => (float[N,16] y) { y = MatMul(x, w) }", w=weight)
    small, _ = compress(model, "quantize-dynamic", calibrator=Fed(data))
    plain, _ = compress(model, "quantize-dynamic", calibrator=Fed(noise(64, 128)))
    assert operators(small) == Counter({"MatMulNBits": 1})
    assert operators(plain)["MatMulIntegerToFloat"] == 1
    exact = data @ weight
    errors = [np.linalg.norm(run_twice(each, {"x": data})[1]["y"] - exact) for each in (small, plain)]
    assert errors[0] < 0.5 * errors[1]


def test_the_cost_of_rounding_is_told_as_the_kernels_have_it() -> None:
    weight, x = noise(128, 16), with_outliers().astype(np.float64)
    known = SiteStatistics(np.zeros((0, 0)), x.min(axis=0), x.max(axis=0), x.max(axis=0), x.max(axis=0), x.mean(axis=0), x.astype(np.float32), len(x))
    coded, exact = Rtn().quantize(weight, None, Grid(8, True, 0, True)), x @ weight
    whole = np.linalg.norm(as_it_comes(x.astype(np.float32)) @ coded.matrix() - exact) / np.linalg.norm(exact)
    assert tensor_error(weight, coded, known) == pytest.approx(whole, rel=0.01)
    blocks = Rtn().quantize(weight, None, Grid(8, True, 64, True))
    assert block_error(weight, blocks, known) < tensor_error(weight, coded, known)


class Slow:
    """A judge to whom nothing is faster."""

    def refusal(self, rule: str, before: ir.Model, after: ir.Model, doubtful: bool) -> Skip | None:
        return skip("no")

    def slower(self, rule: str, before: ir.Model, after: ir.Model) -> Skip | None:
        return skip("it takes longer")


def test_a_product_that_is_not_faster_stays_a_float_unless_size_was_asked_for(draw: Callable, compress: Callable) -> None:
    model = draw("g (float[N,64] x) => (float[N,8] y) { y = MatMul(x, w) }", w=noise(64, 8))
    assert compress(model, "quantize-dynamic", judge=Slow())[1].coverage.records["y"].why == "it takes longer"
    assert compress(model, "quantize-dynamic{small=true}", judge=Slow())[1].coverage.records["y"].form == "int8"


@pytest.mark.parametrize(("dtype", "name"), [(np.float16, "float16"), (np.float64, "double")])
def test_data_of_other_types_stays_and_the_coverage_says_why(dtype: type, name: str, draw: Callable, compress: Callable) -> None:
    model = draw(f"g ({name}[N,64] x) => ({name}[N,8] y) {{ y = MatMul(x, w) }}", w=noise(64, 8).astype(dtype))
    small, context = compress(model, "quantize-dynamic")
    assert operators(small) == Counter({"MatMul": 1})
    assert "float32" in context.coverage.records["y"].why


def test_a_weight_that_is_not_finite_stays_and_the_coverage_says_why(draw: Callable, compress: Callable) -> None:
    weight = noise(32, 8)
    weight[0, 0] = np.inf
    _, context = compress(draw("g (float[N,32] x) => (float[N,8] y) { y = MatMul(x, w) }", w=weight), "quantize-dynamic")
    assert "NaN or infinite" in context.coverage.records["y"].why


def two_outliers() -> np.ndarray:
    data = noise(64, 128)
    data[:, [5, 77]] *= 60.0
    return data


@pytest.mark.parametrize("target", TWO)
@pytest.mark.parametrize("kind", ["MatMul", "Gemm"])
def test_llm_int8_adds_a_product_of_the_outliers_to_one_in_integers(kind: str, target: str, draw: Callable, compress: Callable, run_twice: Callable) -> None:
    weight, bias, data = noise(128, 48), noise(48, seed=1), two_outliers()
    body = "p = MatMul(x, w) y = Add(p, b)" if kind == "MatMul" else "y = Gemm(x, w, b)"
    model = draw(f"g (float[N,128] x) => (float[N,48] y) {{ {body} }}", w=weight, b=bias)
    small, context = compress(model, "quantize-dynamic{method=llm.int8,format=u8s8}", target, calibrator=Fed(data))
    outliers = np.zeros(128, bool)
    outliers[[5, 77]] = True
    rest = as_it_comes(np.where(outliers, 0.0, data).astype(np.float32)) @ rounded(np.where(outliers[:, None], 0.0, weight).astype(np.float32))
    expected = rest + data[:, outliers] @ weight[outliers].astype(np.float16).astype(np.float32) + bias
    for found in run_twice(small, {"x": data}):
        np.testing.assert_allclose(found["y"], expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    exact = data @ weight + bias
    plain, _ = compress(model, "quantize-dynamic{limit=inf}", target)
    errors = [np.abs(next(iter(run_twice(each, {"x": data})))["y"] - exact).max() for each in (small, plain)]
    assert errors[0] < errors[1] / 5
    assert [record.method for record in context.coverage.records.values()] == ["llm.int8"]


def test_llm_int8_without_outliers_is_one_product(draw: Callable, compress: Callable) -> None:
    model = draw("g (float[N,128] x) => (float[N,48] y) { y = MatMul(x, w) }", w=noise(128, 48))
    small, _ = compress(model, "quantize-dynamic{method=llm.int8}", calibrator=Fed(noise(64, 128)))
    assert operators(small)["MatMulIntegerToFloat"] == 1 and "Gather" not in operators(small)


@pytest.mark.parametrize(("method", "reason"), [("llm.int8", "calibration"), ("rptq", "no form for the method 'rptq'"), ("rrs", "no form")])
def test_a_method_without_what_it_needs_is_refused(method: str, reason: str, draw: Callable, compress: Callable) -> None:
    model = draw("g (float[N,8] x) => (float[N,4] y) { y = MatMul(x, w) }", w=noise(8, 4))
    with pytest.raises(UsageError, match=reason):
        compress(model, f"quantize-dynamic{{method={method}}}")
