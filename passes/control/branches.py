"""Branches whose condition is known, or does not matter."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ...compiler.core.build import Build
from ...compiler.core.drift import EXACT
from ...compiler.core.graph import array, is_op
from ...compiler.core.reasons import skip
from ...compiler.core.rule import Match, Result, rule
from ...compiler.core.shapes import known_ints
from .alike import alike
from .bodies import branches_of, captured, copy_of, hand_out, rebind, write_out

TWO = "then_branch = t () => (float[N] a) { a = Relu(x) }, else_branch = e () => (float[N] b) { b = Neg(x) }"


def truth(value: ir.Value | None) -> bool | None:
    """What a condition is sure to be; None when that is not known."""
    content = array(value, 64)
    if content is not None:
        return bool(content.reshape(-1)[0]) if content.size == 1 else None
    known = known_ints(value)
    return bool(known[0]) if known is not None and len(known) == 1 and isinstance(known[0], int) else None


@rule(
    "If",
    drift=EXACT,
    examples=[
        f"g (float[N] x) => (float[N] y) <bool c = {{1}}> {{ y = If(c) <{TWO}> }}",
        f"g (float[N] x) => (float[N] y) <bool[1] c = {{0}}> {{ a1 = If(c) <{TWO}> y = Abs(a1) }}",
        "g (float[N] x) => (float[N] y, float[2] z, float[N] w) <bool c = {1}> { y, z, w = If(c) <then_branch = t () => (float[N] a, float[2] k, float[N] d)"
        " <float[2] k = {1,2}> { s = Relu(x) a = Mul(s, s) d = Identity(x) },"
        " else_branch = e () => (float[N] b, float[2] l, float[N] f) { b = Neg(x) l = Constant<value_floats = [1.0, 3.0]>() f = Exp(x) }> }",
        "g (float[N] x, bool d) => (float[N] y) <bool c = {1}> { y = If(c) <then_branch = t () => (float[N] o) { s = Exp(x) o = If(d) <"
        " then_branch = u () => (float[N] p) { p = Add(s, x) }, else_branch = v () => (float[N] q) { q = Sub(s, x) }> },"
        " else_branch = w () => (float[N] r) { r = Neg(x) }> }",
    ],
    leaves=[f"g (float[N] x, bool c) => (float[N] y) {{ y = If(c) <{TWO}> }}"],
)
def inline_known_if(op: Build, m: Match) -> Result:
    """If(true) { a } else { b } -> a; If(false) { a } else { b } -> b"""
    condition = m.root.inputs[0]
    choice = truth(condition)
    if condition is None:
        return None
    if choice is None:
        return skip("its condition '%s' is not known", condition.name)
    return hand_out(op, write_out(op, branches_of(m.root)[0 if choice else 1], {}))


@rule(
    "If",
    drift=EXACT,
    examples=[
        "g (float[N] x, bool c) => (float[N] y) { y = If(c) <then_branch = t () => (float[N] a) { h = Exp(x) a = Relu(h) },"
        " else_branch = e () => (float[N] b) { i = Exp(x) b = Relu(i) }> }",
        "g (float[2] x, bool c) => (float[2] y) { y = If(c) <then_branch = t () => (float[2] a) <float[2] k = {1,2}> { a = Mul(x, k) },"
        " else_branch = e () => (float[2] b) <float[2] l = {1,2}> { b = Mul(x, l) }> }",
    ],
    leaves=[
        f"g (float[N] x, bool c) => (float[N] y) {{ y = If(c) <{TWO}> }}",
        "g (float[2] x, bool c) => (float[2] y) { y = If(c) <then_branch = t () => (float[2] a) <float[2] k = {1,2}> { a = Sub(x, k) },"
        " else_branch = e () => (float[2] b) <float[2] l = {1,2}> { b = Sub(l, x) }> }",
        "g (float[2] x, bool c) => (float[2] y) { y = If(c) <then_branch = t () => (float[2] a) { a = LeakyRelu<alpha=0.1>(x) },"
        " else_branch = e () => (float[2] b) { b = LeakyRelu<alpha=0.2>(x) }> }",
    ],
)
def inline_equal_branches(op: Build, m: Match) -> Result:
    """If(c) { a } else { a } -> a"""
    one, other = branches_of(m.root)
    if not alike(one, other):
        return skip("its branches are not the same")
    return hand_out(op, write_out(op, one, {}))


@rule(
    "If",
    drift=EXACT,
    examples=[
        "g (float[N] x, bool c) => (float[N] y) { y = If(c) <then_branch = t () => (float[N] a) { h = Exp(x) a = If(c) <then_branch = u () => (float[N] p)"
        " { p = Neg(h) }, else_branch = v () => (float[N] q) { q = Abs(h) }> }, else_branch = e () => (float[N] b) { b = Relu(x) }> }",
        "g (float[N] x, bool c) => (float[N] y) { d = Not(c) y = If(c) <then_branch = t () => (float[N] a) { f = Cast<to=1>(d) a = Add(x, f) },"
        " else_branch = e () => (float[N] b) { b = If(d) <then_branch = u () => (float[N] p) { p = Neg(x) },"
        " else_branch = v () => (float[N] q) { q = Abs(x) }> }> }",
    ],
    leaves=[
        "g (float[N] x, bool c, bool d) => (float[N] y) { y = If(c) <then_branch = t () => (float[N] a) { h = Exp(x) a = If(d) <"
        "then_branch = u () => (float[N] p) { p = Neg(h) }, else_branch = v () => (float[N] q) { q = Abs(h) }> },"
        " else_branch = e () => (float[N] b) { b = Relu(x) }> }",
    ],
)
def settle_condition(op: Build, m: Match) -> Result:
    """If(c) { a(c) } else { b(c) } -> If(c) { a(true) } else { b(false) }"""
    condition = m.root.inputs[0]
    if condition is None or truth(condition) is not None:
        return None
    told = _told(condition)
    branches = branches_of(m.root)
    if not any(value in told for branch in branches for value in captured(branch)):
        return skip("its branches do not read its condition")
    copies = [copy_of(branch) for branch in branches]
    for copy, choice in zip(copies, (True, False), strict=True):
        rebind(copy, {value: op.const(np.full(_shape(value), same == choice), "known") for value, same in told.items()})
    attributes: dict[str, object] = {"then_branch": ir.AttrGraph("then_branch", copies[0]), "else_branch": ir.AttrGraph("else_branch", copies[1])}
    return tuple(op.node("If", (condition,), attributes, outputs=len(m.root.outputs)).outputs)


def _told(condition: ir.Value) -> dict[ir.Value, bool]:
    """The values that a condition decides, and whether each is the same as it or the contrary."""
    told = {condition: True}
    before = condition.producer()
    if before is not None and is_op(before, "Not") and before.inputs[0] is not None:
        told[before.inputs[0]] = False
    for user, _ in condition.uses():
        if is_op(user, "Not"):
            told[user.outputs[0]] = False
    return {value: same for value, same in told.items() if value.shape is not None and value.shape.is_static()}


def _shape(value: ir.Value) -> tuple[int, ...]:
    assert value.shape is not None
    return value.shape.numpy()
