"""Which operators compute on integers, which move them, and which share a scale."""

from __future__ import annotations

import onnx_ir as ir

from graphwright.compiler.core.shapes import settle_shapes
from graphwright.compiler.core.sites import all_sites
from graphwright.passes.quantize.placement import Placement, place

from .static_models import images, kernel, kinds, model_of, quantised, run

K = {"k1": kernel(4, 4, 1, 1), "k2": kernel(4, 4, 1, 1, seed=1), "k3": kernel(4, 4, 1, 1, seed=2), "k8": kernel(4, 8, 1, 1, seed=3)}


def placed(text: str, *, join: bool = False, types: frozenset[str] | None = None, wide: bool = False) -> tuple[Placement, ir.Model]:
    model = model_of(text, {name: content for name, content in K.items() if f" {name}" in text})
    settle_shapes(model)
    return place(model.graph, list(all_sites(model)), join=join, types=types, wide=wide), model


def named(found: Placement, group: str) -> set[str]:
    nodes = {"mixes": found.mixes, "moves": found.moves, "clamps": set(found.clamps.values())}[group]
    return {node.outputs[0].name or "" for node in nodes}


def test_what_lies_between_sites_computes_on_integers_and_what_follows_the_last_does_not() -> None:
    found, _ = placed("g (float[1,4,6,6] x) => (float[1,4,6,6] y) { a = Conv(x, k1) b = Add(a, x) c = Conv(b, k2) d = Add(c, b) y = Sigmoid(d) }")
    assert named(found, "mixes") == {"b"}


def test_moves_keep_the_scale_of_what_they_move() -> None:
    found, model = placed(
        "g (float[1,6,6,4] x) => (float[1,4,3,3] y) { t = Transpose<perm=[0,3,1,2]>(x) a = Conv(t, k1) r = Relu(a)"
        " p = MaxPool<kernel_shape=[2,2], strides=[2,2]>(r) y = Conv(p, k2) }"
    )
    assert named(found, "moves") == {"t", "p"}
    assert named(found, "clamps") == {"r"}
    values = {value.name: value for value in found.coded}
    assert found.root(values["t"]) is values["x"]
    assert found.root(values["p"]) is values["r"]
    assert "a" not in values
    assert {root.name for root in found.groups()} == {"x", "r", "y"}
    assert model.graph.inputs[0] in found.coded


def test_what_a_concat_joins_shares_a_scale_only_where_that_is_asked_for() -> None:
    text = "g (float[1,4,6,6] x) => (float[1,4,6,6] y) { a = Conv(x, k1) b = Conv(x, k2) c = Concat<axis=1>(a, b) y = Conv(c, k8) }"
    for join, roots in ((False, 5), (True, 3)):
        found, _ = placed(text, join=join)
        assert named(found, "mixes") == {"c"}
        assert len(found.groups()) == roots


def test_a_clamp_that_others_share_with_its_input_bounds_codes() -> None:
    text = "g (float[1,4,6,6] x) => (float[1,4,6,6] y) { a = Conv(x, k1) r = Relu(a) b = Conv(r, k2) c = Conv(a, k3) y = Add(b, c) }"
    found, model = placed(text)
    assert named(found, "moves") == {"r"}
    feeds = images(6, 1, 4, 6, 6)
    after, _, _ = quantised(model, feeds)
    assert "Clip" in kinds(after)
    exact = run(model, feeds[0])
    assert abs(run(after, feeds[0]) - exact).max() < 0.05 * abs(exact).max()


def test_an_operator_without_an_integer_kernel_is_read_and_written_in_floats() -> None:
    found, _ = placed("g (float[1,4,6,6] x) => (float[1,4,6,6] y) { a = Conv(x, k1) b = Tanh(a) m = MaxPool<kernel_shape=[1,1]>(b) y = Conv(m, k2) }")
    assert not found.mixes
    assert not found.moves
    assert {value.name for value in found.coded} == {"x", "a", "m", "y"}


def test_kinds_that_are_left_out_stay_floats() -> None:
    text = "g (float[1,4,6,6] x) => (float[1,4,6,6] y) { a = Conv(x, k1) b = Add(a, x) y = Conv(b, k2) }"
    assert named(placed(text, types=frozenset({"Conv"}))[0], "mixes") == set()


def test_codes_of_sixteen_bits_are_not_pooled() -> None:
    text = "g (float[1,4,6,6] x) => (float[1,4,3,3] y) { a = Conv(x, k1) p = MaxPool<kernel_shape=[2,2], strides=[2,2]>(a) y = Conv(p, k2) }"
    assert named(placed(text)[0], "moves") == {"p"}
    assert named(placed(text, wide=True)[0], "moves") == set()


def test_padding_fills_with_the_code_of_its_number_and_a_split_moves_each_part() -> None:
    text = (
        "g (float[1,4,6,6] x) => (float[1,4,8,8] y) <int64[8] pads = {0,0,1,1,0,0,1,1}, float v = {0.25}> { a = Conv(x, k1) p = Pad(a, pads, v)"
        " s, t = Split<axis=1, num_outputs=2>(p) c = Concat<axis=1>(t, s) y = Conv(c, k2) }"
    )
    model = model_of(text, {"k1": K["k1"], "k2": K["k2"]}, opset=18)
    feeds = images(6, 1, 4, 6, 6)
    after, _, taken = quantised(model, feeds)
    assert taken == 2
    assert kinds(after).count("QuantizeLinear") == 4
    exact = run(model, feeds[0])
    assert abs(run(after, feeds[0]) - exact).max() < 0.03 * abs(exact).max()
