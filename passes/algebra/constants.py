"""Constants along a chain of one operation become one constant (associativity)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import ml_dtypes
import numpy as np
import onnx_ir as ir

from ...compiler.core.build import Build
from ...compiler.core.drift import EXACT, ROUNDING, Drift
from ...compiler.core.graph import array, constant, is_op
from ...compiler.core.pattern import Const, Pen
from ...compiler.core.reasons import Skip, skip
from ...compiler.core.rule import Match, Result, Rule, rule
from .law import BOOLEAN, FLOATS, INTEGERS, NUMBERS

MAX_CONSTANT_BYTES = 2**24
"""Larger constants are left alone."""
ROUNDING_TRICK = 256.0
"""(x + c) - c with a large c rounds x to a grid, on purpose: above this size constants that nearly cancel are left alone."""


@dataclass(frozen=True)
class Link:
    """One step of a chain: ``node`` combines the open operand ``x`` with ``constant``; ``first`` says that the constant is its first operand."""

    node: ir.Node
    x: ir.Value
    constant: np.ndarray
    first: bool


def open_operand(node: ir.Node | None, kinds: tuple[str, ...]) -> ir.Value | None:
    """The one operand of a link that is not constant; None when ``node`` is no link."""
    if node is None or not is_op(node, *kinds) or len(node.inputs) != 2:
        return None
    left, right = (constant(value) is not None for value in node.inputs)
    return None if left == right else node.inputs[0 if right else 1]


def _link(node: ir.Node, x: ir.Value) -> Link | None:
    first = node.inputs[1] is x
    content = array(node.inputs[0 if first else 1], MAX_CONSTANT_BYTES)
    return None if content is None or content.size == 0 else Link(node, x, content, first)


def chain(m: Match, kinds: tuple[str, ...]) -> list[Link] | Skip | None:
    """The links from the match's root upwards, none of them needed elsewhere; None where there is no chain."""
    x = open_operand(m.root, kinds)
    if x is None or open_operand(x.producer(), kinds) is None:
        return None
    if _goes_on(m.root, kinds):
        return skip("the chain goes on below")
    links: list[Link] = []
    node: ir.Node | None = m.root
    while node is not None and x is not None and (node is m.root or _only_reader(node, m.root)) and (found := _link(node, x)) is not None:
        links.append(found)
        m.take(node)
        node = x.producer()
        x = open_operand(node, kinds)
    return links if len(links) > 1 else skip("there is one constant only")


def _goes_on(node: ir.Node, kinds: tuple[str, ...]) -> bool:
    value = node.outputs[0]
    readers = [user for user, _ in value.uses()]
    if len(readers) != 1 or value.is_graph_output() or readers[0].graph is not node.graph:
        return False
    return open_operand(readers[0], kinds) is value


def _only_reader(node: ir.Node, root: ir.Node) -> bool:
    value = node.outputs[0]
    return node.graph is root.graph and not value.is_graph_output() and len(value.uses()) == 1


def fits(content: np.ndarray, parts: list[np.ndarray]) -> Skip | None:
    """Why a combined constant will not do: it is larger than each of its parts, or something in it overflowed or was lost."""
    if content.size > max(part.size for part in parts):
        return skip("together the constants have the shape %s", content.shape)
    if content.dtype.kind not in "fV":
        return None
    numbers = content.astype(np.float64)
    if not np.isfinite(numbers).all():
        return skip("a constant would be infinite or NaN")
    small = float(ml_dtypes.finfo(content.dtype).smallest_normal)
    return skip("a constant would be too small") if ((numbers != 0) & (np.abs(numbers) < small)).any() else None


# The maximum of 0 and -0 depends on their order.
_COMBINED: dict[str, tuple[Callable[[np.ndarray, np.ndarray], np.ndarray], frozenset[ir.DataType], Drift, str, int]] = {
    "Max": (np.maximum, NUMBERS, ROUNDING, "float", 8),
    "Min": (np.minimum, NUMBERS, ROUNDING, "float", 8),
    "And": (np.logical_and, BOOLEAN, EXACT, "bool", 7),
    "Or": (np.logical_or, BOOLEAN, EXACT, "bool", 7),
    "Xor": (np.logical_xor, BOOLEAN, EXACT, "bool", 7),
    "BitwiseAnd": (np.bitwise_and, INTEGERS, EXACT, "int64", 18),
    "BitwiseOr": (np.bitwise_or, INTEGERS, EXACT, "int64", 18),
    "BitwiseXor": (np.bitwise_xor, INTEGERS, EXACT, "int64", 18),
}


def _merged(kind: str) -> Rule:
    combine, dtypes, drift, shown, opset = _COMBINED[kind]

    def build(op: Build, m: Match) -> Result:
        links = chain(m, (kind,))
        if links is None or isinstance(links, Skip):
            return links
        if m.root.outputs[0].dtype not in dtypes:
            return skip("it is %s", m.root.outputs[0].dtype)
        total = links[-1].constant
        for item in reversed(links[:-1]):
            total = combine(total, item.constant)
        refusal = fits(total, [item.constant for item in links])
        return refusal or getattr(op, kind)(links[-1].x, op.const(total))

    build.__name__ = f"merge_constants_of_{kind.lower()}"
    build.__doc__ = f"{kind}({kind}(x, c), d) -> {kind}(x, {kind}(c, d)), along a whole chain"
    numbers = ("1", "0") if shown == "bool" else ("1", "2")
    consts = f"<{shown} c = {{{numbers[0]}}}, {shown}[3] d = {{1,0,1}}, {shown} e = {{{numbers[1]}}}>"
    head = f"g ({shown}[N,3] x) => ({shown}[N,3] y) {consts}"
    return rule(
        kind,
        drift=drift,
        opset=opset,
        examples=[f"{head} {{ a = {kind}(x, c) b = {kind}(d, a) y = {kind}(b, e) }}"],
        leaves=[
            f"g ({shown}[N,3] x) => ({shown}[N,3] y, {shown}[N,3] a) {consts} {{ a = {kind}(x, c) y = {kind}(a, e) }}",
            f"g ({shown}[2,3] x) => ({shown}[2,3] y) <{shown}[2,1] c = {{1,0}}, {shown}[3] d = {{1,0,1}}> {{ a = {kind}(x, c) y = {kind}(a, d) }}",
        ],
    )(build)


MERGED = tuple(map(_merged, _COMBINED))


def _wide(content: np.ndarray) -> np.ndarray:
    return content.astype(np.float64) if content.dtype.kind in "fV" else content


def _narrow(content: np.ndarray, dtype: np.dtype) -> np.ndarray:
    with np.errstate(over="ignore", under="ignore"):
        return content.astype(dtype)


def _rounds(links: list[Link], total: np.ndarray) -> bool:
    """Whether large constants nearly cancel, as where a float is rounded to a whole number by adding and subtracting 1.5 * 2^23."""
    largest = max(float(np.abs(_wide(item.constant)).max()) for item in links)
    return largest > ROUNDING_TRICK and float(np.abs(total).min()) < largest / 2


@rule(
    "Add",
    "Sub",
    "Neg",
    drift=ROUNDING,
    opset=7,
    examples=[
        "g (float[N,3] x) => (float[N,3] y) <float c = {2}, float[3] d = {1,0,1}, float e = {-5}> { a = Add(x, c) b = Sub(d, a) y = Sub(b, e) }",
        "g (int32[N,3] x) => (int32[N,3] y) <int32 c = {2147483647}, int32 d = {7}> { a = Add(x, c) y = Sub(a, d) }",
        "g (float[N,3] x) => (float[N,3] y) <float c = {2}, float d = {3}> { a = Sub(c, x) y = Sub(d, a) }",
    ],
    leaves=[
        "g (float[N,3] x) => (float[N,3] y) <float c = {12582912}> { a = Add(x, c) y = Sub(a, c) }",
        "g (float[N,3] x) => (float[N,3] y) <float c = {-3e38}> { a = Add(x, c) y = Add(a, c) }",
        "g (float[N,3] x) => (float[N,3] y, float[N,3] a) <float c = {2}> { a = Add(x, c) y = Add(a, c) }",
        "g (float[N,3] x, float[N,3] z) => (float[N,3] y) <float c = {2}> { a = Add(x, z) y = Add(a, c) }",
    ],
)
def merge_added_constants(op: Build, m: Match) -> Result:
    """(x + c) + d -> x + (c + d), and all combinations with -, along a whole chain"""
    links = chain(m, ("Add", "Sub"))
    if links is None or isinstance(links, Skip):
        return links
    if m.root.outputs[0].dtype not in NUMBERS:
        return skip("it is %s", m.root.outputs[0].dtype)
    dtype = links[0].constant.dtype
    total, negated = np.zeros((), _wide(links[0].constant).dtype), False
    for item in reversed(links):
        subtracts = is_op(item.node, "Sub")
        if subtracts and item.first:
            total, negated = _wide(item.constant) - total, not negated
        else:
            total = total - _wide(item.constant) if subtracts else total + _wide(item.constant)
    if dtype.kind in "fV" and _rounds(links, total):
        return skip("large constants nearly cancel: it rounds on purpose")
    total = _narrow(total, dtype)
    refusal = fits(total, [item.constant for item in links])
    if refusal is not None:
        return refusal
    return op.Sub(op.const(total), links[-1].x) if negated else op.Add(links[-1].x, op.const(total))


@rule(
    "Mul",
    "Div",
    drift=ROUNDING,
    opset=7,
    examples=[
        "g (float[N,3] x) => (float[N,3] y) <float c = {2}, float[3] d = {3,4,5}, float e = {-5}> { a = Mul(x, c) b = Mul(d, a) y = Div(b, e) }",
        "g (int32[N,3] x) => (int32[N,3] y) <int32 c = {65536}, int32 d = {70000}> { a = Mul(x, c) y = Mul(a, d) }",
        "g (int8[N,3] q) => (float[N,3] y) <float c = {2}, float d = {3}, float o = {0.5}>"
        " { r = Cast<to=1>(q) x = Max(r, o) a = Div(c, x) b = Mul(a, d) y = Div(d, b) }",
    ],
    leaves=[
        "g (int32[N,3] x) => (int32[N,3] y) <int32 c = {2}, int32 d = {3}> { a = Div(x, c) y = Mul(a, d) }",
        "g (float[N,3] x) => (float[N,3] y) <float c = {1e-30}> { a = Mul(x, c) y = Mul(a, c) }",
        "g (float[N,3] x) => (float[N,3] y) <float c = {0}> { a = Mul(x, c) y = Mul(a, c) }",
        "g (float[N,3] x) => (float[N,3] y) <float c = {1e30}> { a = Mul(x, c) y = Mul(a, c) }",
    ],
)
def merge_multiplied_constants(op: Build, m: Match) -> Result:
    """(x * c) * d -> x * (c * d), and all combinations with / for floats, along a whole chain"""
    links = chain(m, ("Mul", "Div"))
    if links is None or isinstance(links, Skip):
        return links
    kind = m.root.outputs[0].dtype
    if kind in INTEGERS and any(is_op(item.node, "Div") for item in links):
        return skip("the division of integers rounds")
    if kind not in NUMBERS or (kind in FLOATS and not all(_is_regular(item.constant) for item in links)):
        return skip("a constant is zero, infinite or NaN, or the dtype is %s", kind)
    dtype = links[0].constant.dtype
    total, inverted = np.ones((), _wide(links[0].constant).dtype), False
    for item in reversed(links):
        divides = is_op(item.node, "Div")
        if divides and item.first:
            total, inverted = _wide(item.constant) / total, not inverted
        else:
            total = total / _wide(item.constant) if divides else total * _wide(item.constant)
    total = _narrow(total, dtype)
    refusal = fits(total, [item.constant for item in links]) or (skip("a factor is lost") if kind in FLOATS and not total.all() else None)
    if refusal is not None:
        return refusal
    return op.Div(op.const(total), links[-1].x) if inverted else op.Mul(links[-1].x, op.const(total))


def _is_regular(content: np.ndarray) -> bool:
    numbers = content.astype(np.float64)
    return bool(np.isfinite(numbers).all() and numbers.all())


@rule(
    "Add",
    "Sub",
    "Mul",
    "Div",
    drift=ROUNDING,
    opset=7,
    examples=[
        "g (float[N,3] x) => (float[N,3] y) <float c = {2}, float[3] d = {3,4,5}, float e = {-5}> { a = Add(x, c) b = Mul(d, a) y = Add(b, e) }",
        "g (float[N,3] x) => (float[N,3] y) <float c = {2}, float d = {3}, float e = {-5}> { a = Mul(x, c) b = Sub(d, a) y = Div(b, e) }",
    ],
    leaves=[
        "g (float[N,3] x) => (float[N,3] y) <float c = {2}, float d = {3}> { a = Mul(x, c) y = Add(a, d) }",
        "g (float[N,3] x) => (float[N,3] y) <float c = {2}, float d = {3}, float e = {-5}> { a = Div(c, x) b = Add(a, d) y = Mul(b, e) }",
        "g (float[N,3] x) => (float[N,3] y) <float c = {12582912}, float d = {0.5}, float e = {6291456}> { a = Add(x, c) b = Mul(a, d) y = Sub(b, e) }",
    ],
)
def merge_scales_and_shifts(op: Build, m: Match) -> Result:
    """((x + c) * d) + e -> x * d + (c * d + e): a chain of +, -, * and / by constants is one product and one sum"""
    links = chain(m, ("Add", "Sub", "Mul", "Div"))
    if links is None or isinstance(links, Skip):
        return links
    if len(links) < 3 or m.root.outputs[0].dtype not in FLOATS:
        return skip("%s steps, of %s", len(links), m.root.outputs[0].dtype)
    scale, shift = np.ones(()), np.zeros(())
    for item in reversed(links):
        number = item.constant.astype(np.float64)
        if is_op(item.node, "Mul", "Div"):
            if (is_op(item.node, "Div") and item.first) or not _is_regular(item.constant):
                return skip("a step divides a constant, or scales by 0, infinity or NaN")
            factor = 1 / number if is_op(item.node, "Div") else number
            scale, shift = scale * factor, shift * factor
        elif is_op(item.node, "Sub") and item.first:
            scale, shift = -scale, number - shift
        else:
            shift = shift - number if is_op(item.node, "Sub") else shift + number
    return _affine(op, links, scale, shift)


def _affine(op: Build, links: list[Link], scale: np.ndarray, shift: np.ndarray) -> Result:
    dtype = links[0].constant.dtype
    if all(is_op(item.node, "Add", "Sub") for item in links) or all(is_op(item.node, "Mul", "Div") for item in links):
        return skip("there are only sums, or only products")
    if _rounds(links, shift):
        return skip("large constants nearly cancel: it rounds on purpose")
    parts = [item.constant for item in links]
    factor, addend = _narrow(scale, dtype), _narrow(shift, dtype)
    refusal = fits(factor, parts) or fits(addend, parts) or (skip("a factor is lost") if not factor.all() else None)
    return refusal or op.Add(op.Mul(links[-1].x, op.const(factor, "scale")), op.const(addend, "shift"))


def _both(kind: str, inner: str, combined: str) -> Rule:
    """A constant on each side of an operator becomes one behind it."""

    def before(op: Pen, x: object, y: object, c: Const, d: Const) -> object:
        return getattr(op, kind)(getattr(op, inner)(x, c), getattr(op, inner)(y, d))

    def build(op: Build, m: Match) -> Result:
        parts = [m.array("c"), m.array("d")]
        if m.x.dtype not in NUMBERS or constant(m.x) is not None or constant(m.y) is not None:
            return skip("an operand is %s, or constant", m.x.dtype)
        if max(part.nbytes for part in parts) > MAX_CONSTANT_BYTES:
            return skip("the constants are large")
        left, right = (_wide(part) for part in parts)
        wide = {"Add": left + right, "Sub": left - right, "Mul": left * right}[kind]
        total = _narrow(wide, parts[0].dtype)
        if kind != "Mul" and total.dtype.kind in "fV" and max(float(np.abs(part).max(initial=0)) for part in (left, right)) > ROUNDING_TRICK:
            return skip("large constants may be there to round on purpose")
        lost = skip("a factor is lost") if kind == "Mul" and total.dtype.kind in "fV" and not (total.all() and _is_regular(total)) else None
        refusal = fits(total, parts) or lost
        return refusal or getattr(op, combined)(getattr(op, kind)(m.x, m.y), op.const(total))

    sign = {"Add": "+", "Sub": "-", "Mul": "*"}
    build.__name__ = f"gather_constants_under_{kind.lower()}"
    build.__doc__ = f"(x {sign[inner]} c) {sign[kind]} (y {sign[inner]} d) -> (x {sign[kind]} y) {sign[combined]} (c {sign[kind]} d)"
    head = "g (float[N,3] x, float[N,3] z) => (float[N,3] y)"
    return rule(
        before,
        drift=ROUNDING,
        opset=7,
        examples=[f"{head} <float c = {{2}}, float[3] d = {{1,-3,4}}> {{ a = {inner}(x, c) b = {inner}(z, d) y = {kind}(a, b) }}"],
        leaves=[
            f"{head} <float c = {{1e30}}> {{ a = {inner}(x, c) b = {inner}(z, c) y = {kind}(a, b) }}",
            f"g (float[2,3] x, float[2,3] z) => (float[2,3] y) <float[2,1] c = {{2,3}}, float[3] d = {{1,-3,4}}>"
            f" {{ a = {inner}(x, c) b = {inner}(z, d) y = {kind}(a, b) }}",
        ],
    )(build)


GATHERED = (_both("Mul", "Mul", "Mul"), _both("Add", "Add", "Add"), _both("Sub", "Add", "Add"))


def _spliced(kind: str) -> Rule:
    """An operator of any number of operands takes in those of its own kind above it."""

    def build(op: Build, m: Match) -> Result:
        operands: list[ir.Value] = []
        for value in m.root.inputs:
            node = value.producer() if value is not None else None
            if node is not None and is_op(node, kind) and _only_reader(node, m.root):
                m.take(node)
                operands += [item for item in node.inputs if item is not None]
            elif value is not None:
                operands.append(value)
        return getattr(op, kind)(*operands) if len(m.nodes) > 1 else None

    build.__name__ = f"splice_{kind.lower()}"
    build.__doc__ = f"{kind}({kind}(x, y), z) -> {kind}(x, y, z)"
    head = "g (float[N,3] a, float[N,3] b, float[3] c, float[N,1] d)"
    return rule(
        kind,
        drift=ROUNDING,
        opset=8,
        examples=[f"{head} => (float[N,3] y) {{ p = {kind}(a, b) q = {kind}(c, d) y = {kind}(p, q) }}"],
        leaves=[f"{head} => (float[N,3] y, float[N,3] p) {{ p = {kind}(a, b) y = {kind}(p, c) }}"],
    )(build)


SPLICED = tuple(map(_spliced, ("Max", "Min", "Sum")))
