"""What a loop computes alike in each round, computed once before it."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from ...compiler.core.build import Build
from ...compiler.core.drift import EXACT
from ...compiler.core.graph import attribute, constant, is_op
from ...compiler.core.reasons import skip
from ...compiler.core.rule import Match, Result, rule
from .bodies import body_of, captured, copy_of, hand_out, origin, rebind, with_body, write_node
from .branches import truth
from .total import cannot_fail, is_pure
from .unroll import constant_count, scan_length

LOOP = "b (int64 i, bool k, float[N] a) => (bool k1, float[N] a1)"
STAYING = ("Constant", "Identity", "DequantizeLinear", "QuantizeLinear")
"""Nothing is gained by moving these, and runtimes want quantisation beside what it is for."""


@rule(
    "Loop",
    "Scan",
    drift=EXACT,
    opset=9,
    examples=[
        f"g (float[N] x, float[N] w, int64 n, bool c) => (float[N] y) {{ y = Loop(n, c, x) <body = {LOOP}"
        " { k1 = Identity(k) e = Exp(w) f = Relu(e) a1 = Add(a, f) }> }",
        "g (float[2] x, float[5,2] w, int64[1] p) => (float[2] y, float[4,2] z) <int64 n = {4}> { y, z = Loop(n, , x) <body = b (int64 i, bool k, float[2] a)"
        " => (bool k1, float[2] a1, float[2] s) { k1 = Identity(k) r = Gather(w, p) v = Add(a, r) t = ReduceSum<keepdims=0>(v) a1 = Neg(a) s = Mul(a, t) }> }",
        "g (float[2] x, float[2] w, float[3,2] u) => (float[2] y) <float[2] o = {1,2}> { y = Scan<num_scan_inputs=1, body = b (float[2] a, float[2] e) =>"
        " (float[2] a1) { q = Add(w, o) r = Mul(q, e) a1 = Add(r, a) }>(x, u) }",
        "g (float[2] x, int64 n, bool c) => (float[2] y, float[M,2] z) { y, z = Loop(n, c, x) <body = b (int64 i, bool k, float[2] a)"
        " => (bool k1, float[2] a1, float[2] s) { k1 = Identity(k) a1 = Relu(a) s = Exp(x) }> }",
    ],
    leaves=[
        f"g (float[N] x, float[N] w, int64 n, bool c) => (float[N] y) {{ y = Loop(n, c, x) <body = {LOOP} {{ k1 = Identity(k) e = Exp(a) a1 = Add(e, w) }}> }}",
        f"g (float[N] x, float[N] w, int64 n, bool c) => (float[N] y) {{ y = Loop(n, c, x) <body = {LOOP}"
        " { k1 = Identity(k) e = RandomNormalLike(w) a1 = Add(a, e) }> }",
        "g (int64[2] x, int64[2] w, int64 n, bool c) => (int64[2] y) { y = Loop(n, c, x) <body = b (int64 i, bool k, int64[2] a) => (bool k1, int64[2] a1)"
        " { k1 = Identity(k) e = Div(x, w) a1 = Add(a, e) }> }",
        f"g (float[N] x, float[M] w, float[M,N] v, int64 n, bool c) => (float[N] y) {{ y = Loop(n, c, x) <body = {LOOP}"
        " { k1 = Identity(k) e = MatMul(w, v) a1 = Add(a, e) }> }",
    ],
)
def hoist_invariants(op: Build, m: Match) -> Result:
    """Loop(x) { f(x, g(w)) }, w from outside -> h = g(w), Loop(x) { f(x, h) }"""
    node, body = m.root, body_of(m.root)
    moved = _invariant(node, body)
    if not moved:
        return skip("nothing in its body depends on nothing but what comes from outside and is sure to succeed")
    known: dict[ir.Value, ir.Value] = {}
    outside = captured(body)
    for one in moved:
        for value in one.inputs:
            if value is not None and value not in known and value not in outside and (tensor := constant(value)) is not None:
                known[value] = op.const(tensor, value.name or "const")
        known.update(zip(one.outputs, write_node(op, one, known).outputs, strict=True))
    copy = copy_of(body)
    twins = dict(zip(body, copy, strict=True))
    for one in moved:
        for old, twin in zip(one.outputs, twins[one].outputs, strict=True):
            _hand_in(copy, twin, known[old])
        copy.remove(twins[one], safe=True)
    return hand_out(op, with_body(op, node, copy, list(node.inputs), len(node.outputs)))


def _hand_in(body: ir.Graph, inner: ir.Value, outer: ir.Value) -> None:
    """Let a body read ``outer`` in place of ``inner``; what it gives out it has to make itself, by an Identity."""
    for user, index in tuple(inner.uses()):
        user.replace_input_with(index, outer)
    if inner.is_graph_output():
        passed_on = ir.Node("", "Identity", [outer], num_outputs=1)
        passed_on.outputs[0].name, inner.name = inner.name, None
        body.append(passed_on)
        for index, value in enumerate(body.outputs):
            if value is inner:
                body.outputs[index] = passed_on.outputs[0]


def _invariant(node: ir.Node, body: ir.Graph) -> list[ir.Node]:
    """The nodes of a body, in order, that compute the same in each round and may be run before it."""
    outside = captured(body)
    runs = runs_at_all(node)
    made: set[ir.Value] = set()
    found = []
    for inner in body:
        if inner.op_type in STAYING or not (is_pure(inner) if runs else cannot_fail(inner)):
            continue
        sources = [value for value in inner.inputs if value is not None]
        if all(value in made or value in outside or constant(value) is not None for value in sources) and any(constant(value) is None for value in sources):
            made.update(inner.outputs)
            found.append(inner)
    return found


def runs_at_all(node: ir.Node) -> bool:
    """Whether a Loop or Scan is sure to run at least once."""
    if is_op(node, "Scan"):
        length = scan_length(node)
        return length is not None and length >= 1
    count = constant_count(node)
    return (node.inputs[0] is None or (count is not None and count >= 1)) and (node.inputs[1] is None or truth(node.inputs[1]) is True)


@rule(
    "Loop",
    "Scan",
    drift=EXACT,
    opset=9,
    examples=[
        "g (float[N] x, float[N] w, int64 n, bool c) => (float[N] y, float[N] v) { y, v = Loop(n, c, x, w) <body = b (int64 i, bool k, float[N] a, float[N] d)"
        " => (bool k1, float[N] a1, float[N] d1) { k1 = Identity(k) a1 = Add(a, d) d1 = Identity(d) }> }",
        "g (float[2] w, float[3,2] u) => (float[2] v, float[3,2] z) { v, z = Scan<num_scan_inputs=1, body = b (float[2] d, float[2] e) =>"
        " (float[2] d1, float[2] s) { d1 = Identity(d) s = Mul(d, e) }>(w, u) }",
    ],
    leaves=[
        "g (float[N] x, float[N] w, int64 n, bool c) => (float[N] y, float[N] v) { y, v = Loop(n, c, x, w) <body = b (int64 i, bool k, float[N] a, float[N] d)"
        " => (bool k1, float[N] a1, float[N] d1) { k1 = Identity(k) a1 = Identity(d) d1 = Identity(a) }> }",
    ],
)
def settle_constant_states(op: Build, m: Match) -> Result:
    """Loop(x, w) { f(x, w), w } -> Loop(x) { f(x, w) }, w"""
    node, body = m.root, body_of(m.root)
    settled = dict(_constant_states(node, body))
    if not settled or len(settled) == len(node.outputs):
        return skip("every state changes from round to round")
    skipped = len(body.outputs) - len(node.outputs)
    copy = copy_of(body)
    head = 2 if is_op(node, "Loop") else 0
    rebind(copy, {copy.inputs[head + index]: value for index, value in settled.items()})
    for index in sorted(settled, reverse=True):
        passed_on = copy.outputs.pop(skipped + index).producer()
        copy.inputs.pop(head + index)
        while passed_on is not None and is_op(passed_on, "Identity") and not passed_on.outputs[0].uses() and not passed_on.outputs[0].is_graph_output():
            before = passed_on.inputs[0].producer() if passed_on.inputs[0] is not None else None
            copy.remove(passed_on, safe=True)
            passed_on = before if before is not None and before.graph is copy else None
    inputs = [value for index, value in enumerate(node.inputs) if index - head not in settled]
    made = iter(with_body(op, node, copy, inputs, len(node.outputs) - len(settled)))
    return hand_out(op, [settled[index] if index in settled else next(made) for index in range(len(node.outputs))])


def _constant_states(node: ir.Node, body: ir.Graph) -> Iterator[tuple[int, ir.Value]]:
    """The states that go round unchanged, with what they are from the start."""
    head = 2 if is_op(node, "Loop") else 0
    scanned = 0 if head else int(attribute(node, "num_scan_inputs"))  # type: ignore[call-overload]
    leaving = body.outputs[1 if head else 0 :]
    for index, value in enumerate(node.inputs[head : len(node.inputs) - scanned]):
        entering = body.inputs[head + index]
        if value is not None and isinstance(value.type, ir.TensorType) and origin(leaving[index]) is entering:
            yield index, value
