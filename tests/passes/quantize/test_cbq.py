"""Sites rounded together: a window of them comes out nearer to the original than each rounded by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from graphwright.backends.ort.backend import OrtBackend
from graphwright.compiler.calibration.engine import Engine
from graphwright.compiler.calibration.opening import open_calibration
from graphwright.compiler.core.errors import BackendMissing, TargetError, UsageError
from graphwright.compiler.core.sites import Site, all_sites
from graphwright.passes.quantize.blocks import cut, find_block_method, samples_of
from graphwright.passes.quantize.cbq import Cbq
from graphwright.passes.quantize.coded import Coded
from graphwright.passes.quantize.grid import Grid
from graphwright.passes.quantize.method import find_method

pytest.importorskip("torch")

Rounded = Sequence[tuple[Site, list[Coded]]]

NET = """
net (float[n, 32] x) => (float[n, 10] y) {
  a = MatMul(x, w) b = Gelu(a) c = MatMul(b, v) d = Add(x, c) e = LayerNormalization(d, g, h) f = MatMul(e, u) i = Relu(f) k = Add(i, t) y = MatMul(k, s)
}"""
SHAPES = {"w": (32, 64), "v": (64, 32), "g": (32,), "h": (32,), "u": (32, 48), "t": (48,), "s": (48, 10)}
CONVOLVED = """
net (float[n, 6, 8, 8] x) => (float[n, 5] y) {
  a = Conv<pads = [1, 1, 1, 1], group = 2>(x, w) b = Relu(a) c = ConvTranspose<group = 2>(b, v) d = Relu(c) p = GlobalAveragePool(d) q = Flatten(p)
  y = Gemm<transB = 1>(q, u)
}"""
CONVOLVED_SHAPES = {"w": (8, 3, 3, 3), "v": (8, 4, 2, 2), "u": (5, 8)}


@pytest.fixture
def net(draw: Callable[..., ir.Model]) -> ir.Model:
    return draw(NET, **weights(SHAPES))


def weights(shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    return {name: (random.standard_normal(shape) * shape[0] ** -0.5).astype(np.float32) for name, shape in shapes.items()}


def samples(count: int, shape: tuple[int, ...], seed: int) -> list[dict[str, np.ndarray]]:
    random = np.random.default_rng(seed)
    mixing = np.random.default_rng(7).standard_normal((shape[1], shape[1]))
    return [{"x": np.moveaxis(np.moveaxis(random.standard_normal(shape), 1, -1) @ mixing, -1, 1).astype(np.float32)} for _ in range(count)]


def engine(model: ir.Model, feeds: list[dict[str, np.ndarray]]) -> Engine:
    return Engine(open_calibration(feeds, model), OrtBackend())


def one_by_one(model: ir.Model, calibrator: Engine, method: str, grid: Grid) -> Iterator[tuple[Site, list[Coded]]]:
    for site, statistics in calibrator.sites(model, list(all_sites(model))):
        yield site, [find_method(method)().quantize(part, known, grid) for part, known in zip(site.matrices(), statistics, strict=True)]


def output_error(model: ir.Model, rounded: Rounded, feeds: list[dict[str, np.ndarray]], run_onnx: Callable[..., dict[str, Any]]) -> float:
    before = [run_onnx(model, feed)["y"] for feed in feeds]
    for site, coded in rounded:
        site.weight.const_value = ir.tensor(site.stored(np.stack([part.matrix() for part in coded])), name=site.weight.name)
    after = [run_onnx(model, feed)["y"] for feed in feeds]
    return float(np.linalg.norm(np.stack(after) - np.stack(before)) / np.linalg.norm(np.stack(before)))


@pytest.mark.parametrize(("window", "grid"), [(3, Grid(2, False, 8)), (8, Grid(2, False, 8)), (8, Grid(3)), (3, Grid(2, True, -1)), (8, Grid(2, True, -1))])
def test_a_window_beats_each_site_by_itself_on_unseen_samples(net: ir.Model, run_onnx: Callable[..., dict[str, Any]], grid: Grid, window: int) -> None:
    seen, unseen = samples(24, (64, 32), 1), samples(6, (64, 32), 2)
    calibrator = engine(net, seen)
    together = list(Cbq(window=window, stride=2, samples=24).quantize(net, list(all_sites(net)), calibrator, lambda site: grid))
    apart = list(one_by_one(net, calibrator, "signround", grid))
    assert [site.name for site, _ in together] == ["a", "c", "f", "y"]
    assert sum(part.stored_bits for _, coded in together for part in coded) == sum(part.stored_bits for _, coded in apart for part in coded)
    copies = [ir.from_proto(ir.to_proto(net)) for _ in range(2)]
    errors = []
    for copy, rounded in zip(copies, (together, apart), strict=True):
        twins = {site.name: site for site in all_sites(copy)}
        errors.append(output_error(copy, [(twins[site.name], coded) for site, coded in rounded], unseen, run_onnx))
    assert errors[0] < 0.97 * errors[1]


def test_convolutions_and_their_groups_are_learned_too(draw: Callable[..., ir.Model], run_onnx: Callable[..., dict[str, Any]]) -> None:
    model = draw(CONVOLVED, **weights(CONVOLVED_SHAPES))
    calibrator = engine(model, samples(8, (4, 6, 8, 8), 1))
    grid = Grid(3)
    found = list(Cbq(samples=8, iterations=40).quantize(model, list(all_sites(model)), calibrator, lambda site: grid))
    assert [len(coded) for _, coded in found] == [2, 2, 1]
    apart = list(one_by_one(model, calibrator, "signround", grid))
    copies = [ir.from_proto(ir.to_proto(model)) for _ in range(2)]
    errors = []
    for copy, rounded in zip(copies, (found, apart), strict=True):
        twins = {site.name: site for site in all_sites(copy)}
        errors.append(output_error(copy, [(twins[site.name], coded) for site, coded in rounded], samples(3, (4, 6, 8, 8), 2), run_onnx))
    assert errors[0] < errors[1]


@pytest.mark.parametrize("start", ["rtn", "gptq", "signround"])
@pytest.mark.parametrize("grid", [Grid(3, False, 8), Grid(3), Grid(4, True, 0, narrow=True), Grid(2, False, -1)], ids=str)
def test_without_learning_every_code_is_that_of_the_start(net: ir.Model, start: str, grid: Grid) -> None:
    calibrator = engine(net, samples(6, (16, 32), 1))
    found = list(Cbq(start=start, iterations=0, samples=6).quantize(net, list(all_sites(net)), calibrator, lambda site: grid))
    for (_, ours), (_, theirs) in zip(found, one_by_one(net, calibrator, start, grid), strict=True):
        np.testing.assert_allclose(ours[0].matrix(), theirs[0].matrix(), rtol=1e-5, atol=1e-7)


def test_the_same_seed_gives_the_same_codes_and_the_model_stays_as_it_is(net: ir.Model) -> None:
    before = ir.to_proto(net).SerializeToString()
    calibrator = engine(net, samples(6, (16, 32), 1))
    first, second = (list(Cbq(iterations=10, samples=6).quantize(net, list(all_sites(net)), calibrator, lambda site: Grid(3))) for _ in range(2))
    assert all(np.array_equal(one[0].matrix(), other[0].matrix()) for (_, one), (_, other) in zip(first, second, strict=True))
    assert ir.to_proto(net).SerializeToString() == before


def test_the_pass_stores_what_it_makes_and_says_what_it_leaves(draw: Callable[..., ir.Model], compress: Callable[..., Any]) -> None:
    third = np.eye(4, dtype=np.float32) / 3
    model = draw("net (float[n, 4] x) => (float[n, 4] y) { a = MatMul(x, w) b = MatMul(a, w) y = MatMul(b, v) }", w=third, v=third)
    calibrator = engine(model, samples(3, (4, 4), 1))
    small, context = compress(model, "quantize-weights{bits=4,method=cbq}", "onnx", calibrator=calibrator)
    assert [node.op_type for node in small.graph].count("DequantizeLinear") == 1
    assert context.coverage.taken == 1
    with pytest.raises(UsageError, match="cbq needs calibration data"):
        compress(model, "quantize-weights{bits=4,method=cbq}", "onnx")


def test_stretches_run_one_after_the_other_are_the_model(net: ir.Model, run_onnx: Callable[..., dict[str, Any]]) -> None:
    feed = samples(1, (5, 32), 3)[0]
    calibrator = engine(net, [feed])
    given = samples_of(calibrator, net, 4)
    assert len(given) == 1
    assert np.array_equal(given[0]["x"], feed["x"])
    import torch

    values = {"x": torch.from_numpy(feed["x"])}
    stretches = cut(net, list(all_sites(net)))
    assert [stretch.site.name if stretch.site else None for stretch in stretches] == [None, "a", "c", "f", "y"]
    for stretch in stretches:
        values = stretch.run(values)
        assert set(values) <= stretch.later
    np.testing.assert_allclose(values["y"].numpy(), run_onnx(net, feed)["y"], rtol=1e-4, atol=1e-5)


def test_a_weight_that_two_nodes_read_is_left_out(draw: Callable[..., ir.Model]) -> None:
    model = draw(
        "net (float[n, 4] x) => (float[n, 4] y) { a = MatMul(x, w) b = MatMul(a, w) y = MatMul(b, v) }",
        w=np.eye(4, dtype=np.float32) / 3,
        v=np.eye(4, dtype=np.float32),
    )
    found = list(Cbq(iterations=2).quantize(model, list(all_sites(model)), engine(model, samples(3, (4, 4), 1)), lambda site: Grid(4)))
    assert [site.name for site, _ in found] == ["y"]


def test_what_cannot_be_done_is_refused(draw: Callable[..., ir.Model], net: ir.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    calibrator = engine(net, samples(3, (16, 32), 1))
    with pytest.raises(UsageError, match="there is no method 'best' for several sites together; there are: .*cbq"):
        find_block_method("best")
    with pytest.raises(UsageError, match="no quantisation method 'best'"):
        list(Cbq(start="best").quantize(net, list(all_sites(net)), calibrator, lambda site: Grid(3)))
    strange = draw("net (float[n, 4] x) => (int64[a, b] y) { a = MatMul(x, w) y = NonZero(a) }", w=np.eye(4, dtype=np.float32))
    with pytest.raises(TargetError, match="NonZero cannot be differentiated"):
        list(Cbq().quantize(strange, list(all_sites(strange)), engine(strange, samples(3, (4, 4), 1)), lambda site: Grid(3)))
    monkeypatch.setattr("graphwright.passes.differentiable.torch_there.find_spec", lambda name: None)
    with pytest.raises(BackendMissing, match="the method cbq needs torch"):
        list(Cbq().quantize(net, list(all_sites(net)), calibrator, lambda site: Grid(3)))
