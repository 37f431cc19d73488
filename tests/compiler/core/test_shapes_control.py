"""Shapes through branches, loops, scans and sequences."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from graphwright.compiler.core import dims, shapes

from .inferring import assert_shapes_hold, feeds_for, inferred, shape_of, value_of


def test_a_contradiction_in_a_branch_is_no_error_because_it_may_never_run() -> None:
    model = inferred(
        "g (bool c, float[2] x) => (float[A] y) { y = If(c) <then_branch = t () => (float[B] r) { w = Constant<value = float[3] {1,2,3}>() r = Add(x, w) },"
        " else_branch = e () => (float[C] q) { q = Relu(x) }> }"
    )
    assert value_of(model, "y").dtype == ir.DataType.FLOAT


IF = (
    "g (bool c, float[N,M] x, float[K] z) => (float[A,B] y) { y = If(c) <then_branch = t () => (float[D,E] r) { r = Relu(x) },"
    " else_branch = e () => (float[F,G] q) { q = Add(x, z) }> v = Identity(y) }"
)


def test_branches_give_what_both_agree_on() -> None:
    model = inferred(IF)
    first, second = value_of(model, "y").shape or ()
    assert first == "N" and shapes.is_ours(second)
    for truth in (True, False):
        assert_shapes_hold(model, {**feeds_for(model, {"N": 2, "M": 1, "K": 4}), "c": np.array(truth)})


def test_a_branch_that_is_always_taken_decides() -> None:
    model = inferred(
        IF.replace("bool c, float", "float")
        .replace("{ y = If", "{ s = Size(x) w = Constant<value_int=-1>() c = Equal(s, w) y = If")
        .replace("float[K] z", "float[1] z")
    )
    assert shape_of(model, "y") == "[N,M]"


LOOP = (
    "g (int64 n, float[N] x, float[2] w) => (float[A] y, float[B,C] z) {{ c = Constant<value = bool {{1}}>() y, k, z = Loop(n, c, x, w) <body = b"
    " (int64 i, bool c0, float[X] a, float[Y] k0) => (bool c1, float[Z] d, float[Y] k1, float[W] s)"
    " {{ c1 = Identity(c0) d = {step} k1 = Relu(k0) s = Neg({scanned}) }}> }}"
)


def test_a_carried_value_that_grows_has_no_fixed_size() -> None:
    model = inferred(LOOP.format(step="Concat<axis=0>(a, a)", scanned="k0"))
    (size,) = value_of(model, "y").shape or ()
    assert shapes.is_ours(size) and shape_of(model, "k1") == "[2]" and shape_of(model, "k") == "[2]"
    assert (value_of(model, "z").shape or ())[1] == 2
    for count in (0, 1, 3):
        assert_shapes_hold(model, {**feeds_for(model, {"N": 3}), "n": np.array(count)})


def test_a_loop_counter_declared_as_a_vector_of_one_element_stays_one() -> None:
    text = LOOP.format(step="Relu(a)", scanned="v").replace("(int64 i,", "(int64[1] i,").replace("s = Neg(v)", "v = Cast<to=1>(i) s = Neg(v)")
    model = inferred(text.replace("float[B,C] z", "float[B,1] z"))
    assert shape_of(model, "s") == "[1]"
    assert_shapes_hold(model, {**feeds_for(model, {"N": 3}), "n": np.array(2)})


def test_a_carried_value_that_keeps_its_size_keeps_its_symbol() -> None:
    model = inferred(LOOP.format(step="Relu(a)", scanned="a"))
    assert shape_of(model, "y") == "[N]" and (value_of(model, "z").shape or ())[1] == "N"


def test_what_is_born_in_a_body_has_no_name_outside() -> None:
    model = inferred(
        LOOP.format(step="Relu(a)", scanned="a")
        .replace("s = Neg(a)", "t = Neg(a) u = Compress<axis=0>(t, m) s = Abs(u)")
        .replace("float[2] w)", "float[2] w, bool[N] m)")
    )
    inside, outside = value_of(model, "s").shape, value_of(model, "z").shape
    assert inside is not None and outside is not None and shapes.is_ours(outside[1]) and not dims.same(inside[0], outside[1])


def test_a_loop_that_runs_to_its_count_stacks_that_many() -> None:
    model = inferred(LOOP.format(step="Relu(a)", scanned="a").replace("int64 n, ", "").replace("{ c =", "{ n = Constant<value_int=4>() c =", 1))
    assert shape_of(model, "z") == "[4,N]"


def test_scan_slices_and_stacks() -> None:
    model = inferred(
        "g (float[N] s, float[M,N] x) => (float[A] y, float[B,C] z) { y, z = Scan<num_scan_inputs=1, body = b (float[X] a, float[Y] e)"
        " => (float[Z] r, float[W] o)"
        " { r = Add(a, e) o = Relu(r) }>(s, x) }"
    )
    assert (shape_of(model, "y"), shape_of(model, "z")) == ("[N]", "[M,N]")
    assert_shapes_hold(model, feeds_for(model, {"N": 3, "M": 4}))


def test_tensors_of_one_sequence_share_no_symbol() -> None:
    model = inferred(
        "g (float[N] x, float[M] z) => (float[A] y) { s = SequenceConstruct(x, z) i = Constant<value_int=0>() j = Constant<value_int=1>() a = SequenceAt(s, i)"
        " b = SequenceAt(s, j) y = Concat<axis=0>(a, b) }"
    )
    (first,), (second,) = value_of(model, "a").shape or (), value_of(model, "b").shape or ()
    assert not dims.same(first, second)
    assert_shapes_hold(model, feeds_for(model, {"N": 3, "M": 5}))
