"""Linear operators over one input whose results are concatenated: their weights are, instead."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import onnx_ir as ir

from ...compiler.core.build import Build
from ...compiler.core.drift import ROUNDING
from ...compiler.core.graph import attribute, is_op
from ...compiler.core.reasons import skip
from ...compiler.core.rule import Match, Result, rule
from . import convs, projections
from .elementwise import APPROXIMATE, BIT_FOR_BIT
from .siblings import same_attributes

IMAGE = "g (float[N,1,3,3] x) => (float[N,3,3,3] y) <float[2,1,1,1] v = {2,3}, float[1,1,1,1] w = {4}, float[1] b = {5}"


@dataclass(frozen=True)
class Term:
    """One thing that is concatenated: ``act(part(x))``; ``key`` is equal for terms that can be one."""

    x: ir.Value
    part: convs.Window | projections.Projection
    nodes: tuple[ir.Node, ...]
    act: ir.Node | None
    key: tuple[object, ...]


@rule(
    "Concat",
    drift=ROUNDING,
    opset=9,
    examples=[
        f"{IMAGE}> {{ p = Conv(x, v) q = Conv(x, w, b) y = Concat<axis=1>(p, q) }}",
        f"{IMAGE}> {{ p = Conv(x, v) q = Conv(x, w, b) r = Relu(p) s = Relu(q) y = Concat<axis=1>(s, r) }}",
        "g (float[N,1,3,3] x, float[N,1,3,3] z) => (float[N,4,3,3] y) <float[2,1,1,1] v = {2,3}, float[1,1,1,1] w = {4}>"
        " { p = Conv(x, v) q = Conv(x, w) y = Concat<axis=-3>(z, p, q) }",
        "g (float[N,2,2] x) => (float[N,2,4] y) <float[2,3] a = {1,2,3,4,5,6}, float[2,1] b = {7,8}, float[3] c = {1,2,3}>"
        " { p = MatMul(x, a) q = MatMul(x, b) r = Add(p, c) y = Concat<axis=-1>(r, q) }",
        "g (float[N,2] x) => (float[N,4] y) <float[2,3] a = {1,2,3,4,5,6}, float[1,2] b = {7,8}, float[3] c = {1,2,3}>"
        " { p = Gemm(x, a, c) q = Gemm<transB=1>(x, b) r = Tanh(p) s = Tanh(q) y = Concat<axis=1>(r, s) }",
    ],
    leaves=[
        f"{IMAGE}> {{ p = Conv(x, v) q = Conv(x, w, b) r = Relu(p) s = Tanh(q) y = Concat<axis=1>(s, r) }}",
        f"{IMAGE}, float[1,1,3,3] k = {{1,2,3,4,5,6,7,8,9}}> {{ p = Conv(x, v) q = Conv<pads=[1,1,1,1]>(x, k) y = Concat<axis=1>(p, q) }}",
        "g (float[N,1,3,3] x) => (float[N,1,6,3] y) <float[1,1,1,1] v = {2}, float[1,1,1,1] w = {4}>"
        " { p = Conv(x, v) q = Conv(x, w) y = Concat<axis=2>(p, q) }",
        "g (float[N,2,2] x) => (float[N,4,3] y) <float[2,3] a = {1,2,3,4,5,6}, float[2,3] b = {7,8,1,2,3,4}>"
        " { p = MatMul(x, a) q = MatMul(x, b) y = Concat<axis=1>(p, q) }",
        "g (float[N,1,3,3] x, float[N,1,3,3] z) => (float[N,3,3,3] y) <float[2,1,1,1] v = {2,3}, float[1,1,1,1] w = {4}>"
        " { p = Conv(x, v) q = Conv(z, w) y = Concat<axis=1>(p, q) }",
    ],
)
def join_weights(op: Build, m: Match) -> Result:
    """Concat(f(x A + a), f(x B + b), ...) -> f(x [A B ...] + [a b ...]) along the channels, for MatMul, Gemm and Conv; neighbours only"""
    terms = [_term(m.root, value) for value in m.root.inputs]
    runs = list(_runs(terms))
    if all(len(run) < 2 or terms[run[0]] is None for run in runs):
        return None
    made: list[ir.Value | None] = []
    for run in runs:
        group = [term for term in (terms[index] for index in run) if term is not None]
        if len(group) < 2:
            made += [m.root.inputs[index] for index in run]
            continue
        if len({node for term in group for node in term.nodes}) < sum(len(term.nodes) for term in group):
            return skip("one of them is concatenated twice")
        for node in (node for term in group for node in term.nodes):
            m.take(node)
        made.append(_merged(op, group))
    return made[0] if len(made) == 1 else op.like(m.root, *made)


def _term(concat: ir.Node, value: ir.Value | None) -> Term | None:
    node = value.producer() if value is not None else None
    rank = len(value.shape) if value is not None and value.shape is not None else None
    if node is None or rank is None or value is None:
        return None
    act = node if is_op(node, *BIT_FOR_BIT, *APPROXIMATE) and node.inputs[0] is not None and not is_op(node, "Cast") else None
    inner = act.inputs[0] if act is not None else value
    axis = int(attribute(concat, "axis")) % rank  # type: ignore[call-overload]
    found = _linear(inner, axis, rank) if inner is not None and len(value.uses()) == 1 else None
    if found is None:
        return None
    x, part, nodes, key = found
    return Term(x, part, (*nodes, act) if act is not None else nodes, act, (x, *key))


def _linear(value: ir.Value, axis: int, rank: int) -> tuple[ir.Value, convs.Window | projections.Projection, tuple[ir.Node, ...], tuple[object, ...]] | None:
    node = value.producer()
    if is_op(node, "Conv"):
        window = convs.window(node)
        return None if window is None or axis != 1 else (window.item.data, window, (window.node,), window.geometry)
    if is_op(node, "Add"):
        node = next((made for made in (part.producer() for part in node.inputs if part is not None) if is_op(made, "MatMul")), None)  # type: ignore[union-attr]
    part = projections.projection(node)
    if part is None or part.output is not value or axis != rank - 1 or part.nodes[0].inputs[0] is None:
        return None
    return part.nodes[0].inputs[0], part, part.nodes, (part.nodes[0].op_type, part.weight.dtype)


def _runs(terms: list[Term | None]) -> Iterable[list[int]]:
    """Neighbouring places whose terms can be one."""
    run: list[int] = []
    for index, term in enumerate(terms):
        if run and not _join(terms[run[-1]], term):
            yield run
            run = []
        run.append(index)
    yield run


def _join(first: Term | None, second: Term | None) -> bool:
    if first is None or second is None or first.key != second.key:
        return False
    if first.act is None or second.act is None:
        return first.act is second.act
    alike = first.act.op_type == second.act.op_type and same_attributes(first.act, second.act)
    return alike and list(first.act.inputs[1:]) == list(second.act.inputs[1:])


def _merged(op: Build, group: list[Term]) -> ir.Value:
    build: Callable[..., ir.Value] = convs.merged if isinstance(group[0].part, convs.Window) else projections.merged
    made = build(op, group[0].x, [term.part for term in group])
    act = group[0].act
    return made if act is None else op.like(act, made, *act.inputs[1:])  # type: ignore[return-value]
