"""Results of branches and loops that nobody reads, or that are the same whatever happens."""

from __future__ import annotations

import onnx_ir as ir

from ...compiler.core.build import Build
from ...compiler.core.drift import EXACT
from ...compiler.core.graph import attribute, erase, is_op
from ...compiler.core.reasons import skip
from ...compiler.core.rule import Match, Result, rule
from .bodies import body_of, branches_of, captured, copy_of, hand_out, is_read, keep, needed_by, origin, reads, with_body

STEP = "b (int64 i, bool k, float[N] a, float[N] d) => (bool k1, float[N] a1, float[N] d1, float[N] s)"


@rule(
    "If",
    drift=EXACT,
    examples=[
        "g (float[N] x, bool c) => (float[N] y) { y, z = If(c) <then_branch = t () => (float[N] a, float[N] p) { a = Relu(x) p = Exp(x) },"
        " else_branch = e () => (float[N] b, float[N] q) { b = Neg(x) q = Log(x) }> }"
    ],
    leaves=[
        "g (float[N] x, bool c) => (float[N] y, float[N] z) { y, z = If(c) <then_branch = t () => (float[N] a, float[N] p) { a = Relu(x) p = Exp(x) },"
        " else_branch = e () => (float[N] b, float[N] q) { b = Neg(x) q = Log(x) }> }"
    ],
)
def drop_unread_results(op: Build, m: Match) -> Result:
    """If(c) { a, p } else { b, q }, its second result unread -> If(c) { a } else { b }"""
    kept = [index for index, value in enumerate(m.root.outputs) if is_read(value)]
    if not kept or len(kept) == len(m.root.outputs) or m.root.inputs[0] is None:
        return skip("all its results are read")
    return keep(m.root.outputs, kept, _with_results(op, m.root, kept))


@rule(
    "If",
    drift=EXACT,
    examples=[
        "g (float[N] x, bool c) => (float[N] y, float[N] z) { h = Exp(x) y, r = If(c) <then_branch = t () => (float[N] a, float[N] p)"
        " { a = Relu(x) p = Identity(h) }, else_branch = e () => (float[N] b, float[N] q) { b = Neg(x) q = Identity(h) }> z = Abs(r) }"
    ],
    leaves=[
        "g (float[N] x, bool c) => (float[N] y) { h = Exp(x) y = If(c) <then_branch = t () => (float[N] p) { p = Identity(h) },"
        " else_branch = e () => (float[N] q) { q = Identity(x) }> }"
    ],
)
def share_equal_results(op: Build, m: Match) -> Result:
    """If(c) { a, x } else { b, x } -> If(c) { a } else { b }, x"""
    one, other = branches_of(m.root)
    outside = captured(one)
    same = {index: origin(left) for index, left in enumerate(one.outputs) if origin(left) in outside and origin(left) is origin(other.outputs[index])}
    same = {index: value for index, value in same.items() if is_read(m.root.outputs[index])}
    if not same or m.root.inputs[0] is None:
        return skip("no result is the same in both branches")
    kept = [index for index, value in enumerate(m.root.outputs) if index not in same and is_read(value)]
    replaced = keep(m.root.outputs, kept, _with_results(op, m.root, kept) if kept else ())
    return hand_out(op, [same.get(index, value) for index, value in enumerate(replaced)])


def _with_results(op: Build, node: ir.Node, kept: list[int]) -> tuple[ir.Value, ...]:
    """An If like this one that only makes some of its results."""
    attributes: dict[str, object] = {}
    for name, branch in zip(("then_branch", "else_branch"), branches_of(node), strict=True):
        copy = copy_of(branch)
        _keep_outputs(copy, kept)
        attributes[name] = ir.AttrGraph(name, copy)
    return tuple(op.node("If", tuple(node.inputs), attributes, outputs=len(kept)).outputs)


@rule(
    "Loop",
    "Scan",
    drift=EXACT,
    opset=9,
    examples=[
        f"g (int64 n, bool c, float[N] x, float[N] w) => (float[N] y) {{ y, z, q = Loop(n, c, x, w) <body = {STEP}"
        " { k1 = Identity(k) a1 = Relu(a) d1 = Exp(d) s = Add(a, d) }> }",
        f"g (int64 n, bool c, float[N] x, float[N] w) => (float[N] y, float[N] z) {{ y, z, q = Loop(n, c, x, w) <body = {STEP}"
        " { k1 = Identity(k) a1 = Add(a, d) d1 = Neg(d) s = Add(a, d) }> }",
        "g (float[2] x, float[2] w, float[3,2] u) => (float[3,2] y) { p, q, y, z = Scan<num_scan_inputs=1, scan_output_axes=[0,1], body ="
        " b (float[2] a, float[2] d, float[2] e) => (float[2] a1, float[2] d1, float[2] o, float[2] r)"
        " { a1 = Relu(a) d1 = Neg(d) o = Add(d, e) r = Add(a, e) }>(x, w, u) }",
    ],
    leaves=[
        f"g (int64 n, bool c, float[N] x, float[N] w) => (float[N] y, float[M,N] q) {{ y, z, q = Loop(n, c, x, w) <body = {STEP}"
        " { k1 = Identity(k) a1 = Relu(a) d1 = Exp(d) s = Add(a, d) }> }",
        "g (int64 n, bool c, float x, float w) => (float y) { y, z = Loop(n, c, x, w) <body = b (int64 i, bool k, float a, float d)"
        " => (bool k1, float a1, float d1) { k1 = Greater(d, a) a1 = Relu(a) d1 = Exp(d) }> }",
    ],
)
def drop_unread_states(op: Build, m: Match) -> Result:
    """Loop(x, w) { a(x), b(w) } of which nobody reads what comes of w, and a does not either -> Loop(x) { a(x) }"""
    node, body = m.root, body_of(m.root)
    head = 2 if is_op(node, "Loop") else 0
    scanned = 0 if head else int(attribute(node, "num_scan_inputs"))  # type: ignore[call-overload]
    states = len(node.inputs) - head - scanned
    needed = _needed_states(node, body, head, states)
    kept = [index for index, value in enumerate(node.outputs) if (index in needed if index < states else is_read(value))]
    if len(kept) == len(node.outputs) or not any(is_read(value) for value in node.outputs) or (head and node.outputs[0].graph is None):
        return skip("all its states and results are read")
    copy = copy_of(body)
    gone = [index for index in range(states) if index not in needed]
    skipped = 1 if head else 0
    _keep_outputs(copy, [*range(skipped), *(index + skipped for index in kept)])
    for index in reversed(gone):
        copy.inputs.pop(head + index)
    inputs = [value for index, value in enumerate(node.inputs) if index - head not in gone]
    made = with_body(op, node, copy, inputs, len(kept), **_axes(node, kept, states))
    return keep(node.outputs, kept, made)


def _axes(node: ir.Node, kept: list[int], states: int) -> dict[str, object]:
    """The attributes of a Scan that say something about each of its stacked results."""
    names = [name for name in ("scan_output_axes", "scan_output_directions") if name in node.attributes]
    return {name: [node.attributes[name].as_ints()[index - states] for index in kept if index >= states] or None for name in names}


def _needed_states(node: ir.Node, body: ir.Graph, head: int, states: int) -> set[int]:
    """The states that somebody reads at the end, or that somewhere along the way decide what is read."""
    leaving = list(body.outputs[1:] if head else body.outputs)
    needed = {index for index in range(states) if is_read(node.outputs[index])}
    wanted = [leaving[index] for index, value in enumerate(node.outputs) if is_read(value)] + list(body.outputs[: 1 if head else 0])
    entering = {value: index for index, value in enumerate(body.inputs[head : head + states])}
    seen: set[ir.Value] = set()
    while wanted:
        value = wanted.pop()
        if value in seen:
            continue
        seen.add(value)
        if value in entering and entering[value] not in needed:
            needed.add(entering[value])
        if value in entering:
            wanted.append(leaving[entering[value]])
        maker = value.producer()
        if maker is not None and maker.graph is body:
            wanted += reads(maker)
    return needed


def _keep_outputs(graph: ir.Graph, kept: list[int]) -> None:
    """Leave only these outputs, and what they need."""
    left = [graph.outputs[index] for index in kept]
    graph.outputs.clear()
    graph.outputs.extend(left)
    needed = needed_by(graph, left)
    for node in reversed(graph):
        if node not in needed:
            erase(node)
