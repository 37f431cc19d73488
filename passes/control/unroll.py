"""Loops that are sure to run a known number of times, written out."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from ...compiler.core.build import Build
from ...compiler.core.drift import EXACT
from ...compiler.core.graph import attribute, is_op, scalar, subgraphs_of
from ...compiler.core.reasons import Skip, skip
from ...compiler.core.rule import Match, Result, rule
from ...compiler.core.shapes import static_shape
from ...compiler.core.symbolic.control import trip_count
from .bodies import body_of, hand_out, write_out
from .branches import truth

MOST_ROUNDS = 64
MOST_NODES = 512
"""Of all rounds together; beyond it a loop is the smaller model, and no slower to speak of."""
MOST_SCANNED_ROUNDS, MOST_SCANNED_ELEMENTS = 16, 256
"""A Scan hands out slices without copying them: written out it is no slower in ONNX Runtime 1.32 up to these, a third slower at 4096 elements."""
LOOP = "b (int64 i, bool k, float[N] a) => (bool k1, float[N] a1, float[N] s)"


@rule(
    "Loop",
    drift=EXACT,
    opset=14,
    examples=[
        f"g (float[N] x) => (float[N] y, float[3,N] z) <int64 n = {{3}}, bool c = {{1}}> {{ y, z = Loop(n, c, x) <body = {LOOP}"
        " { k1 = Identity(k) f = Cast<to=1>(i) a1 = Add(a, f) s = Mul(a1, a) }> }",
        f"g (float[N] x) => (float[N] y, float[1,N] z) <int64[1] n = {{1}}> {{ y, z = Loop(n, , x) <body = {LOOP} <bool k1 = {{1}}>"
        " { a1 = Neg(a) s = Relu(a1) }> }",
        f"g (float[N] x, float[N] w) => (float[N] y, float[2,N] z) <int64 n = {{2}}> {{ y, z = Loop(n, , x) <body = {LOOP.replace('int64 i', 'int64[1] i')}"
        " { k1 = Identity(k) f = Cast<to=1>(i) g = Add(a, f) a1 = If(k) <then_branch = t () => (float[N] p) { p = Add(w, g) },"
        " else_branch = e () => (float[N] q) { q = Sub(w, g) }> s = Neg(a1) }> }",
        f"g (float[N] x) => (float[N] y, float[1,N] z) <bool c = {{1}}> {{ y, z = Loop( , c, x) <body = {LOOP} <bool k1 = {{0}}>"
        " { a1 = Neg(a) s = Exp(a) }> }",
        "g (float[N] x, float[N] w) => (float[N] y, float[N] z) <int64 n = {2}, bool c = {1}> { y, z = Loop(n, c, x, w) <body ="
        " b (int64 i, bool k, float[N] a, float[N] d) => (bool k1, float[N] a1, float[N] d1) { k1 = Identity(k) a1 = Identity(d) d1 = Identity(a) }> }",
        "g (float[N] x, float[N] w) => (float[N] y, float[M,N] z) <int64 n = {2}, bool c = {1}> { y, z = Loop(n, c, x) <body ="
        " b (int64 i, bool k, float[N] a) => (bool k1, float[N] a1, float[N] s) <float[1] o = {1}> { k1 = Identity(k) a1 = Add(a, o) s = Add(w, o) }> }",
    ],
    leaves=[
        f"g (float[N] x, int64 n) => (float[N] y, float[M,N] z) <bool c = {{1}}> {{ y, z = Loop(n, c, x) <body = {LOOP}"
        " { k1 = Identity(k) a1 = Neg(a) s = Relu(a1) }> }",
        f"g (float[N] x, bool c) => (float[N] y, float[M,N] z) <int64 n = {{3}}> {{ y, z = Loop(n, c, x) <body = {LOOP}"
        " { k1 = Identity(k) a1 = Neg(a) s = Relu(a1) }> }",
        "g (float x) => (float y) <int64 n = {3}, bool c = {1}, float z = {0}> { y = Loop(n, c, x) <body = b (int64 i, bool k, float a)"
        " => (bool k1, float a1) { k1 = Greater(a, z) a1 = Neg(a) }> }",
        f"g (float[N] x) => (float[N] y, float[M,N] z) <int64 n = {{100000}}, bool c = {{1}}> {{ y, z = Loop(n, c, x) <body = {LOOP}"
        " { k1 = Identity(k) a1 = Neg(a) s = Relu(a1) }> }",
    ],
)
def unroll_loop(op: Build, m: Match) -> Result:
    """Loop(n, true, x) { f } -> f(... f(f(x))), for a constant n; what each round gives out is stacked"""
    body, states = body_of(m.root), m.root.inputs[2:]
    rounds = _rounds(m.root, body)
    refusal = _too_long(rounds, body)
    if refusal is not None:
        return refusal
    if any(value is None for value in states):
        return skip("a state has no initial value")
    state = tuple(value for value in states if value is not None)
    given: list[tuple[ir.Value, ...]] = []
    assert rounds is not None
    for index in range(rounds):
        counter = op.const(np.full(_vector_or_scalar(body.inputs[0]), index), "round")
        going = op.const(np.full(_vector_or_scalar(body.inputs[1]), True), "going")
        made = write_out(op, body, dict(zip(body.inputs, (counter, going, *state), strict=True)), first=1)
        state, results = made[: len(state)], made[len(state) :]
        given.append(results)
    formals = body.outputs[1 + len(state) :]
    return hand_out(op, [*state, *(_stacked(op, results, 0, formal) for results, formal in zip(zip(*given, strict=True), formals, strict=True))])


@rule(
    "Loop",
    drift=EXACT,
    opset=13,
    examples=[
        f"g (float[2] x) => (float[2] y, float[0,2] z) <int64 n = {{0}}> {{ y1, z = Loop(n, , x) <body = {LOOP.replace('[N]', '[2]')}"
        " { k1 = Identity(k) a1 = Neg(a) s = Relu(a1) }> y = Abs(y1) }",
        "g (float[N] x, int64 n) => (float[N] y) <bool c = {0}> { y1 = Loop(n, c, x) <body = b (int64 i, bool k, float[N] a) => (bool k1, float[N] a1)"
        " { k1 = Identity(k) a1 = Neg(a) }> y = Abs(y1) }",
    ],
    leaves=[
        f"g (float[N] x) => (float[N] y, float[0,N] z) <int64 n = {{0}}, bool c = {{1}}> {{ y, z = Loop(n, c, x) <body = {LOOP}"
        " { k1 = Identity(k) a1 = Neg(a) s = Relu(a1) }> }",
        f"g (float[2] x, int64 n) => (float[2] y, float[M,2] z) <bool c = {{1}}> {{ y, z = Loop(n, c, x) <body = {LOOP.replace('[N]', '[2]')}"
        " { k1 = Identity(k) a1 = Neg(a) s = Relu(a1) }> }",
    ],
)
def drop_loop_that_never_runs(op: Build, m: Match) -> Result:
    """Loop(0, c, x) { f }, Loop(n, false, x) { f } -> x, and nothing where results are stacked"""
    states = m.root.inputs[2:]
    count = constant_count(m.root)
    if not (truth(m.root.inputs[1]) is False or (count is not None and count <= 0)):
        return skip("it may run")
    stacked = [_nothing(op, value) for value in m.root.outputs[len(states) :]]
    if any(value is None for value in (*states, *stacked)):
        return skip("a state has no initial value, or the size of what it gives out is not known")
    return hand_out(op, [value for value in (*states, *stacked) if value is not None])


@rule(
    "Scan",
    drift=EXACT,
    opset=14,
    measured=True,
    examples=[
        "g (float[2] x, float[3,2] u) => (float[2] y, float[3,2] z) { y, z = Scan<num_scan_inputs=1, body = b (float[2] a, float[2] e) => (float[2] a1,"
        " float[2] s) { a1 = Add(a, e) s = Mul(a1, a) }>(x, u) }",
        "g (float[2] x, float[2,3] u, float[3,2] v) => (float[2] y, float[2,3] z, float[3,2] w) { y, z, w = Scan<num_scan_inputs=2, scan_input_axes=[-1,0],"
        " scan_input_directions=[1,0], scan_output_axes=[1,0], scan_output_directions=[0,1], body = b (float[2] a, float[2] e, float[2] h) =>"
        " (float[2] a1, float[2] s, float[2] t) { p = Mul(a, e) a1 = Sub(p, h) s = Identity(a1) t = Neg(h) }>(x, u, v) }",
        "g (float[0] x, float[3,2] u) => (float[0] y, float[3,0] z) { y, z = Scan<num_scan_inputs=1, body = b (float[0] a, float[2] e) => (float[0] a1,"
        " float[0] s) { a1 = Neg(a) s = Abs(a) }>(x, u) }",
        "g (float[3] u) => (float[3,1] z) { z = Scan<num_scan_inputs=1, scan_output_axes=[-2], body = b (float e) => (float[1] s) <int64[1] l = {1}>"
        " { n = Neg(e) s = Reshape(n, l) }>(u) }",
    ],
    leaves=[
        "g (float[2] x, float[N,2] u) => (float[2] y, float[N,2] z) { y, z = Scan<num_scan_inputs=1, body = b (float[2] a, float[2] e) => (float[2] a1,"
        " float[2] s) { a1 = Add(a, e) s = Mul(a1, a) }>(x, u) }",
        "g (float[2000] x, float[2,2000] u) => (float[2000] y, float[2,2000] z) { y, z = Scan<num_scan_inputs=1, body = b (float[2000] a, float[2000] e) =>"
        " (float[2000] a1, float[2000] s) { a1 = Add(a, e) s = Mul(a1, a) }>(x, u) }",
        "g (float[2] x, float[5000,2] u) => (float[2] y, float[5000,2] z) { y, z = Scan<num_scan_inputs=1, body = b (float[2] a, float[2] e) =>"
        " (float[2] a1, float[2] s) { a1 = Add(a, e) s = Mul(a1, a) }>(x, u) }",
    ],
)
def unroll_scan(op: Build, m: Match) -> Result:
    """Scan(x, u) { f } -> f(... f(f(x, u[0]), u[1]) ..., u[n - 1]), for a constant n; what each round gives out is stacked"""
    node, body = m.root, body_of(m.root)
    scanned = int(attribute(node, "num_scan_inputs"))  # type: ignore[call-overload]
    states = len(node.inputs) - scanned
    if any(value is None for value in node.inputs):
        return skip("an input is missing")
    rounds = scan_length(node)
    refusal = _too_long(rounds, body) or _too_large(rounds, body)
    if refusal is not None or rounds is None:
        return refusal
    state = tuple(value for value in node.inputs[:states] if value is not None)
    sources = [value for value in node.inputs[states:] if value is not None]
    axes, backwards = _per_input(node, "scan_input_axes", scanned), _per_input(node, "scan_input_directions", scanned)
    given: list[tuple[ir.Value, ...]] = []
    for index in range(rounds):
        places = [rounds - 1 - index if back else index for back in backwards]
        slices = [_slice(op, source, place, axis) for source, place, axis in zip(sources, places, axes, strict=True)]
        made = write_out(op, body, dict(zip(body.inputs, (*state, *slices), strict=True)))
        state = made[:states]
        given.append(made[states:])
    count = len(node.outputs) - states
    out_axes, out_backwards = _per_input(node, "scan_output_axes", count), _per_input(node, "scan_output_directions", count)
    stacked = []
    for results, axis, back, formal in zip(zip(*given, strict=True), out_axes, out_backwards, body.outputs[states:], strict=True):
        stacked.append(_stacked(op, results[::-1] if back else results, axis, formal))
    return hand_out(op, [*state, *stacked])


def scan_length(node: ir.Node) -> int | None:
    """How often a Scan runs; None when that is not known."""
    scanned = int(attribute(node, "num_scan_inputs"))  # type: ignore[call-overload]
    for value, axis in zip(node.inputs[len(node.inputs) - scanned :], _per_input(node, "scan_input_axes", scanned), strict=True):
        size = value.shape[axis] if value is not None and value.shape is not None else None
        if isinstance(size, int):
            return size
    return None


def _slice(op: Build, source: ir.Value, place: int, axis: int) -> ir.Value:
    return op.node("Gather", (source, op.const(np.array(place), "place")), {"axis": axis}).outputs[0]


def _per_input(node: ir.Node, name: str, count: int) -> list[int]:
    return list(attribute(node, name) or [0] * count)  # type: ignore[call-overload]


def _rounds(node: ir.Node, body: ir.Graph) -> int | None:
    """How often a Loop runs; None when that is not known."""
    if node.inputs[1] is not None and truth(node.inputs[1]) is not True:
        return None
    count = constant_count(node)
    if truth(body.outputs[0]) is False and (node.inputs[0] is None or (count is not None and count >= 1)):
        return 1
    known = trip_count(node, body) if node.inputs[0] is not None else None
    return known if isinstance(known, int) else None


def constant_count(node: ir.Node) -> int | None:
    """How often a Loop runs at most, when that is a constant."""
    count = scalar(node.inputs[0]) if node.inputs[0] is not None else None
    return int(count) if count is not None else None


def _too_long(rounds: int | None, body: ir.Graph) -> Skip | None:
    if rounds is None or rounds < 1:
        return skip("how often it runs is not known to be a number above 0 (%s)", rounds)
    nodes = _size(body)
    if rounds > MOST_ROUNDS or rounds * nodes > MOST_NODES:
        return skip("it runs %s times over %s nodes; at most %s rounds and %s nodes are written out", rounds, nodes, MOST_ROUNDS, MOST_NODES)
    return None


def _too_large(rounds: int | None, body: ir.Graph) -> Skip | None:
    sizes = [static_shape(value) for value in (*body.inputs, *body.outputs)]
    largest = max((math.prod(size) for size in sizes if size is not None), default=0)
    if (rounds or 0) > MOST_SCANNED_ROUNDS or None in sizes or largest > MOST_SCANNED_ELEMENTS:
        return skip("it runs %s times over %s elements, where slices that are not copied pay", rounds, "an unknown number of" if None in sizes else largest)
    return None


def _size(body: ir.Graph) -> int:
    """How many nodes a body becomes when every loop in it is written out too."""
    total = 0
    for node in body:
        inside = sum(map(_size, subgraphs_of(node)))
        rounds = (_rounds(node, body_of(node)) if is_op(node, "Loop") else scan_length(node)) if is_op(node, "Loop", "Scan") else 1
        total += 1 + inside * min(max(rounds or 1, 1), MOST_NODES)
    return total


def _vector_or_scalar(value: ir.Value) -> tuple[int, ...]:
    return (1,) if value.shape is not None and len(value.shape) == 1 else ()


def _stacked(op: Build, results: tuple[ir.Value, ...], axis: int, formal: ir.Value) -> ir.Value:
    """The results of all rounds, each like ``formal``, as one tensor with a new axis."""
    sizes = static_shape(formal)
    if axis == 0 and sizes and len(results) > 1:
        joined = op.node("Concat", results, {"axis": 0}).outputs[0]
        return op.node("Reshape", (joined, op.const([len(results), *sizes], "sizes")), {"allowzero": 1}).outputs[0]
    place = op.const([axis], "axis")
    rows = [op.node("Unsqueeze", (value, place), {}).outputs[0] for value in results]
    return rows[0] if len(rows) == 1 else op.node("Concat", tuple(rows), {"axis": axis}).outputs[0]


def _nothing(op: Build, value: ir.Value) -> ir.Value | None:
    """The tensor without elements that a Loop gives out when it never runs."""
    if value.shape is None or value.dtype is None or not isinstance(value.type, ir.TensorType):
        return None
    rest = static_shape(ir.Value(shape=ir.Shape(list(value.shape)[1:])))
    return None if rest is None else op.const(np.zeros((0, *rest), dtype=value.dtype.numpy()), "nothing")
