"""Transposes end up where the fewest bytes are transposed, and the model computes what it did."""

from __future__ import annotations

import itertools

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from graphwright.compiler.core.dims import evaluate, free_symbols
from graphwright.compiler.core.graph import bind_opsets, is_op
from graphwright.compiler.core.ledger import Ledger
from graphwright.compiler.core.passes import Context
from graphwright.compiler.core.shapes import infer_shapes
from graphwright.compiler.core.wellformed import check
from graphwright.passes.movement.flow import SINK, SOURCE, Network
from graphwright.passes.movement.layouts import AGNOSTIC
from graphwright.passes.movement.place_transposes import PlaceTransposes
from graphwright.passes.movement.region import Costs, Region

HEADER = '<ir_version: 10, opset_import: ["" : 21]>\n'
TO_NCHW, TO_NHWC = "Transpose<perm=[0,3,1,2]>", "Transpose<perm=[0,2,3,1]>"

CANCEL = {
    "a chain between two transposes": "g (float[N,4,5,3] x) => (float[N,4,5,3] y)"
    f" {{ a = {TO_NCHW}(x) b = Relu(a) c = LeakyRelu(b) y = {TO_NHWC}(c) }}",
    "a residual": f"g (float[N,4,5,3] x, float[N,4,5,3] z) => (float[N,4,5,3] y)"
    f" {{ a = {TO_NCHW}(x) b = {TO_NCHW}(z) c = Add(a, b) d = Mul(c, a) y = {TO_NHWC}(d) }}",
    "constants of every rank": "g (float[N,4,5,3] x) => (float[N,4,5,3] y) <float[3,1,1] c = {1,2,3}, float[5] w = {1,2,3,4,5}, float s = {2}>"
    f" {{ a = {TO_NCHW}(x) b = Add(a, c) d = Mul(w, b) e = Div(d, s) f = PRelu(e, c) y = {TO_NHWC}(f) }}",
    "joined and parted": "g (float[N,4,5,3] x, float[N,4,5,2] z) => (float[N,4,5,1] y, float[N,4,5,4] w) <int64[2] s = {1,4}>"
    f" {{ a = {TO_NCHW}(x) b = {TO_NCHW}(z) c = Concat<axis=1>(a, b) d, e = Split<axis=-3>(c, s) y = {TO_NHWC}(d) w = {TO_NHWC}(e) }}",
    "padded, cut and repeated": "g (float[N,4,5,3] x) => (float[N,8,10,3] y)"
    " <int64[8] p = {0,1,0,0,0,0,0,0}, int64[1] a = {1}, int64[4] t = {1,1,2,2}, int64[1] b = {1}, int64[1] z = {4}>"
    f" {{ c = {TO_NCHW}(x) d = Pad(c, p) f = Slice(d, b, z, a) h = Tile(f, t) y = {TO_NHWC}(h) }}",
    "normalised over the channels": f"g (float[N,4,5,3] x) => (float[N,4,5,3] y) {{ a = {TO_NCHW}(x) b = Softmax<axis=1>(a) y = {TO_NHWC}(b) }}",
    "reduced": "g (float[N,4,5,3] x) => (float[N,1,1,3] y) <int64[2] a = {2,-1}>"
    f" {{ b = {TO_NCHW}(x) c = ReduceMean<keepdims=1>(b, a) y = {TO_NHWC}(c) }}",
    "reduced away": "g (float[N,4,5,3] x) => (float[N,3] y) <int64[2] a = {2,3}>"
    f" {{ b = {TO_NCHW}(x) c = Relu(b) y = ReduceMean<keepdims=0>(c, a) }}",
    "the largest channel": f"g (float[N,4,5,3] x) => (int64[N,4,5] y) {{ a = {TO_NCHW}(x) y = ArgMax<axis=1, keepdims=0>(a) }}",
    "quantised per channel": "g (float[N,4,5,3] x) => (float[N,4,5,3] y) <float[3] s = {0.1,0.2,0.3}, uint8[3] z = {0,1,2}>"
    f" {{ a = {TO_NCHW}(x) q = QuantizeLinear<axis=1>(a, s, z) d = DequantizeLinear<axis=1>(q, s, z) y = {TO_NHWC}(d) }}",
    "resized": "g (float[N,4,5,3] x) => (float[N,8,10,3] y) <float[4] s = {1,1,2,2}>"
    f" {{ a = {TO_NCHW}(x) b = Resize<mode=\"nearest\">(a, , s) y = {TO_NHWC}(b) }}",
    "other types": "g (int64[N,4,5,3] x, bool[N,4,5,3] c) => (float[N,4,5,3] y)"
    f" {{ a = {TO_NCHW}(x) b = {TO_NCHW}(c) d = Where(b, a, a) e = Cast<to=1>(d) y = {TO_NHWC}(e) }}",
    "more and fewer dims": "g (float[N,4,5,3] x) => (float[N,4,5] y) <int64[1] i = {2}, int64 k = {1}>"
    f" {{ a = {TO_NCHW}(x) b = Unsqueeze(a, i) c = Squeeze(b, i) y = Gather<axis=1>(c, k) }}",
}  # fmt: skip

KEEP = {
    "one transpose less here is one more there": f"g (float[N,4,5,3] x, float[N,3,4,5] z) => (float[N,3,4,5] y) {{ a = {TO_NCHW}(x) y = Add(a, z) }}",
    "it is needed as it is": f"g (float[N,4,5,3] x) => (float[N,3,4,5] y) {{ a = {TO_NCHW}(x) y = Relu(a) }}",
    "the operator cares": f"g (float[N,4,5,3] x) => (float[N,4,5,3] y) {{ a = {TO_NCHW}(x) b = MaxPool<kernel_shape=[1,1]>(a) y = {TO_NHWC}(b) }}",
    "the cut is not known": f"g (float[N,4,5,3] x, int64[1] s) => (float[N,4,5,C] y)"
    f" {{ a = {TO_NCHW}(x) b = Slice(a, s, s, s) y = {TO_NHWC}(b) }}",
    "the largest of what may be NaN": "g (float[N,4,5,3] x) => (float[N,3] y) <int64[2] a = {2,3}>"
    f" {{ b = {TO_NCHW}(x) y = ReduceMax<keepdims=0>(b, a) }}",
    "a linear resize of the first dims": "g (float[1,4,5,3] x) => (float[1,8,10,3] y) <float[4] s = {1,2,2,1}>"
    ' { a = Transpose<perm=[2,1,0,3]>(x) b = Resize<mode="linear">(a, , s) y = Transpose<perm=[2,1,0,3]>(b) }',
}  # fmt: skip


def model_of(text: str) -> ir.Model:
    model = ir.from_onnx_text(HEADER + text)
    bind_opsets(model)
    infer_shapes(model)
    return model


def transposes(model: ir.Model) -> int:
    return sum(node.op_type == "Transpose" for node in model.graph.all_nodes())


def feeds_for(model: ir.Model, size: int) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(3)
    feeds = {}
    for value in model.graph.inputs:
        shape = [evaluate(dim, dict.fromkeys(free_symbols(dim), size)) for dim in value.shape]
        feeds[value.name] = (generator.normal(size=shape) * 3).astype(value.dtype.numpy())
    return feeds


@pytest.mark.parametrize("text", CANCEL.values(), ids=CANCEL)
def test_transposes_that_meet_around_operators_that_do_not_care_are_gone(text: str, run_onnx) -> None:
    before, model = model_of(text), model_of(text)
    assert PlaceTransposes().run(model, Context()) >= 1
    check(model)
    onnx.checker.check_model(ir.to_proto(model))
    assert transposes(model) == 0
    assert PlaceTransposes().run(model, Context()) == 0
    for size in (0, 1, 2):
        feeds = feeds_for(before, size)
        for old, new in zip(run_onnx(before, feeds).values(), run_onnx(model, feeds).values(), strict=True):
            assert old.shape == new.shape and old.dtype == new.dtype
            np.testing.assert_allclose(new, old, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("text", KEEP.values(), ids=KEEP)
def test_transposes_stay_where_nothing_is_gained_or_proven(text: str) -> None:
    model = model_of(text)
    count = transposes(model)
    assert PlaceTransposes().run(model, Context()) == 0
    assert transposes(model) == count


def test_a_transpose_moves_to_where_there_are_fewer_bytes() -> None:
    model = model_of(
        "g (float[2,4,5,3] x) => (float[2,3,4,2] y) <float s = {0.1}, int8 z = {0}, int64[1] b = {0}, int64[1] e = {2}, int64[1] a = {3}>"
        f" {{ t = {TO_NCHW}(x) q = QuantizeLinear(t, s, z) c = Slice(q, b, e, a) y = DequantizeLinear(c, s, z) }}"
    )
    assert PlaceTransposes().run(model, Context()) == 1
    (moved,) = (node for node in model.graph if node.op_type == "Transpose")
    assert moved.inputs[0].dtype == ir.DataType.INT8
    assert moved.inputs[0].producer().op_type == "Slice"


def test_only_the_part_that_gains_is_changed() -> None:
    """The sum with z is cheaper as it is written; what comes before it is not."""
    model = model_of(
        f"g (float[N,4,5,3] x, float[N,3,4,5] z) => (float[N,3,4,5] y, float[N,4,5,3] w) {{ a = {TO_NCHW}(x) b = Relu(a) w = {TO_NHWC}(b) y = Add(b, z) }}"
    )
    assert PlaceTransposes().run(model, Context()) == 1
    assert transposes(model) == 1
    (kept,) = (node for node in model.graph if node.op_type == "Add")
    assert kept.inputs[0].producer().op_type == "Transpose"


def test_a_stretch_that_was_rolled_back_is_left_alone() -> None:
    text = CANCEL["a chain between two transposes"]
    model = model_of(text)
    ledger = Ledger(denied=frozenset({("place-transposes", "a"), ("place-transposes", "y")}))
    assert PlaceTransposes().run(model, Context(ledger=ledger)) == 0
    assert transposes(model) == 2


def test_an_output_keeps_its_name_where_another_value_becomes_the_same() -> None:
    model = model_of(
        "g (float[2,1,2] x) => (float[2,2,1] y, float[2,2] z) <int64[1] s = {2}>"
        " { a = Transpose<perm=[2,1,0]>(x) b = Softmax<axis=-1>(a) y = Transpose<perm=[2,0,1]>(b) c = Transpose<perm=[2,0,1]>(b)"
        " d = Squeeze(c, s) e = Transpose(d) f = Neg(e) z = Transpose(f) }"
    )
    assert PlaceTransposes().run(model, Context()) >= 1
    check(model)
    assert [value.name for value in model.graph.outputs] == ["y", "z"]


def test_changes_that_would_follow_each_other_forever_end() -> None:
    """A tensor, itself transposed, is added to it, and both are needed in other layouts as well."""
    model = model_of(
        "g (float[3,N,3] x) => (float[N,3,3] y, float[N,3] z) <int64[1] a = {0}>"
        " { b = Add(x, x) c = Transpose<perm=[2,1,0]>(b) y = Transpose<perm=[1,0,2]>(b) d = Add(b, c) e = LeakyRelu(d) z = ReduceMean<keepdims=0>(e, a) }"
    )
    assert PlaceTransposes().run(model, Context()) < 10
    check(model)


def test_stretches_inside_branches_are_changed_too(run_onnx) -> None:
    branch = f"{{ a = {TO_NCHW}(x) b = NAME(a) c = {TO_NHWC}(b) }}"
    text = "g (bool t, float[2,4,5,3] x) => (float[2,4,5,3] y) { y = If (t) <then_branch = h () => (float[2,4,5,3] c) " + branch.replace("NAME", "Relu")
    text += ", else_branch = k () => (float[2,4,5,3] c) " + branch.replace("NAME", "Neg") + "> }"
    before, model = model_of(text), model_of(text)
    assert PlaceTransposes().run(model, Context()) == 2
    check(model)
    assert transposes(model) == 0
    feeds = {"t": np.array(True), "x": np.random.default_rng(0).normal(size=(2, 4, 5, 3)).astype(np.float32)}
    np.testing.assert_array_equal(run_onnx(before, feeds)["y"], run_onnx(model, feeds)["y"])


def test_what_a_branch_captures_keeps_its_layout() -> None:
    model = model_of(
        f"g (bool t, float[2,4,5,3] x) => (float[2,3,4,5] y) {{ a = {TO_NCHW}(x) b = Relu(a)"
        " y = If (t) <then_branch = h () => (float[2,3,4,5] c) { c = Neg(b) }, else_branch = k () => (float[2,3,4,5] d) { d = Identity(b) }> }"
    )
    PlaceTransposes().run(model, Context())
    check(model)
    assert transposes(model) == 1


THIRD = {
    "a third layout that is free from the changed one": "g (float[2,4,5,3] x, float[2,3,4,5] z) => (float[3,2,4,5] y, float[2,3,4,5] w, float[4,3,2,5] v)"
    f" {{ a = {TO_NCHW}(x) b = Relu(a) y = Transpose<perm=[1,0,2,3]>(b) w = Add(b, z) v = Transpose<perm=[2,1,0,3]>(b) }}",
    "dims of size 1 move for nothing": "g (float[2,1,5,3] x, float[2,3,1,5] z) => (float[2,3,5,1] y, float[2,5,3,1] w)"
    f" {{ a = {TO_NCHW}(x) b = Relu(a) y = Transpose<perm=[0,1,3,2]>(b) c = Add(b, z) w = Transpose<perm=[0,3,1,2]>(c) }}",
}  # fmt: skip


@pytest.mark.parametrize("text", [*CANCEL.values(), *KEEP.values(), *THIRD.values()], ids=[*CANCEL, *KEEP, *THIRD])
def test_no_other_choice_of_operators_is_cheaper(text: str) -> None:
    model = model_of(text)
    for node in model.graph:
        for downwards in (True, False):
            if node.op_type != "Transpose":
                continue
            region = Region.around(node, lambda member: is_op(member, *AGNOSTIC), downwards)
            costs = Costs(region)
            choices = (set(some) for count in range(len(region.faces) + 1) for some in itertools.combinations(region.faces, count))
            assert costs.of(costs.best()) == min(map(costs.of, choices))


def test_the_network_is_parted_where_the_pipes_are_narrowest() -> None:
    network = Network()
    for start, end, capacity in ((SOURCE, "a", 5), (SOURCE, "b", 3), ("a", "c", 2), ("b", "c", 9), ("c", SINK, 9), ("a", "b", 1)):
        network.pipe(start, end, capacity)
    assert network.parted() == {SOURCE, "a"}
