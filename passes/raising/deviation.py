"""Products that divide by a root mean square, as every normalisation does.

``d / sqrt(mean(d^2) + e) * w`` in any order, with Reciprocal, ``1 / ...``, or powers of a half, is read as one `Normalised`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import onnx_ir as ir

from ...compiler.core.axes import reduced_axes
from ...compiler.core.graph import attribute, is_op, producer
from .polynomial import FLOATS, close, number_beside
from .polynomial import exponent as exponent_of

PRODUCTS = ("Mul", "Div", "Reciprocal", "Neg")
WITHIN = frozenset({*PRODUCTS, "Sqrt", "Pow"})
MAX_DEPTH, MAX_NODES = 4, 16


@dataclass
class Product:
    """``number`` times the values with their exponents, 1 or -1."""

    number: float = 1.0
    factors: list[tuple[ir.Value, int]] = field(default_factory=list)
    nodes: list[ir.Node] = field(default_factory=list)


@dataclass(frozen=True)
class MeanSquare:
    """``mean(d^2 over axes) + epsilon``, the reduced dims kept; the axes count from 0, in order."""

    d: ir.Value
    axes: tuple[int, ...]
    epsilon: float
    nodes: tuple[ir.Node, ...]


@dataclass(frozen=True)
class Normalised:
    """``number * d / sqrt(mean(d^2) + epsilon)`` times each of ``others``."""

    square: MeanSquare
    number: float
    others: tuple[ir.Value, ...]
    nodes: tuple[ir.Node, ...]


def normalised(value: ir.Value) -> Normalised | None:
    """``value`` as something divided by its own root mean square; None when it is nothing of the kind."""
    if not any(node.op_type in ("Sqrt", "Pow") for node in _upstream(value)):
        return None
    flat = product_of(value, None)
    for factor, exponent in flat.factors:
        root = under_root(factor, exponent)
        square = mean_square(root[0]) if root is not None else None
        if root is None or square is None:
            continue
        found = product_of(value, square.d)
        rest = [item for item in found.factors if item != (factor, exponent)]
        if (square.d, 1) not in rest or len(rest) != len(found.factors) - 1:
            continue
        rest.remove((square.d, 1))
        if all(power == 1 for _, power in rest):
            return Normalised(square, found.number, tuple(item for item, _ in rest), (*found.nodes, *root[1], *square.nodes))
    return None


def _upstream(value: ir.Value) -> list[ir.Node]:
    """What is multiplied and divided on the way to ``value``, and the roots among it; few, as every product asks."""
    found: dict[ir.Node, None] = {}
    frontier: list[ir.Value | None] = [value]
    for _ in range(MAX_DEPTH):
        nodes = [item.producer() for item in frontier if item is not None]
        fresh = [node for node in nodes if node is not None and node not in found and node.op_type in WITHIN]
        found.update(dict.fromkeys(fresh))
        if not fresh or len(found) > MAX_NODES:
            break
        frontier = [item for node in fresh if node.op_type in PRODUCTS for item in node.inputs]
    return list(found)


def product_of(value: ir.Value, base: ir.Value | None) -> Product:
    """``value`` taken apart into what is multiplied and divided, but for ``base``."""
    found = Product()
    _take_apart(value, 1, base, found, MAX_DEPTH)
    return found


def _take_apart(value: ir.Value, exponent: int, base: ir.Value | None, found: Product, depth: int) -> None:
    node = producer(value, *PRODUCTS)
    if value is base or node is None or depth == 0 or len(found.nodes) > MAX_NODES or any(item is None for item in node.inputs):
        found.factors.append((value, exponent))
        return
    found.nodes.append(node)
    for index, item in enumerate(node.inputs):
        sign = -exponent if node.op_type == "Reciprocal" or (node.op_type == "Div" and index == 1) else exponent
        number = number_beside(node, index) if len(node.inputs) == 2 else None
        if number is not None and number != 0:
            found.number *= number**sign
        else:
            _take_apart(item, sign, base, found, depth - 1)  # type: ignore[arg-type]
    if node.op_type == "Neg":
        found.number = -found.number


def under_root(value: ir.Value, exponent: int) -> tuple[ir.Value, tuple[ir.Node, ...]] | None:
    """v when ``value ** exponent`` is ``1 / sqrt(v)``, and the nodes that say so."""
    node = producer(value, "Sqrt", "Pow")
    if node is None or node.inputs[0] is None:
        return None
    if node.op_type == "Pow":
        power = exponent_of(node)
        return (node.inputs[0], (node,)) if power is not None and power * exponent == -0.5 else None
    if exponent == -1:
        return node.inputs[0], (node,)
    inverse = producer(node.inputs[0], "Reciprocal", "Div")
    if inverse is None or inverse.inputs[-1] is None or (inverse.op_type == "Div" and number_beside(inverse, 0) != 1):
        return None
    return inverse.inputs[-1], (node, inverse)


def mean_square(value: ir.Value | None) -> MeanSquare | None:
    """``value`` as mean(d^2) + epsilon; epsilon is 0 when nothing is added."""
    node, epsilon = producer(value, "Add"), 0.0
    nodes: tuple[ir.Node, ...] = ()
    if node is not None:
        index = next((index for index in (0, 1) if number_beside(node, index) is not None), None)
        if index is None:
            return None
        epsilon, value, nodes = number_beside(node, index) or 0.0, node.inputs[1 - index], (node,)
    mean = producer(value, "ReduceMean", "Div", "Mul", "ReduceSumSquare", "ReduceSum")
    if mean is None or not 0 <= epsilon < math.inf:
        return None
    if mean.op_type != "ReduceMean":
        return _averaged(mean, epsilon, nodes)
    axes, squared = kept_axes(mean), _squared(mean.inputs[0])
    return MeanSquare(squared[0], axes, epsilon, (*nodes, mean, squared[1])) if axes is not None and squared is not None else None


def _averaged(node: ir.Node, epsilon: float, nodes: tuple[ir.Node, ...]) -> MeanSquare | None:
    """A sum of squares divided by how many there are."""
    if not is_op(node, "Div", "Mul"):
        return None
    index = 1 if node.op_type == "Div" else next((index for index in (0, 1) if number_beside(node, index) is not None), 1)
    number, total = number_beside(node, index), producer(node.inputs[1 - index], "ReduceSum", "ReduceSumSquare")
    axes = kept_axes(total) if total is not None else None
    if not number or total is None or axes is None or total.inputs[0] is None or total.inputs[0].shape is None:
        return None
    count = math.prod(size if isinstance(size, int) else 0 for size in (total.inputs[0].shape[axis] for axis in axes))
    if not close(1 / number if node.op_type == "Mul" else number, count, total.inputs[0].dtype):
        return None
    squared = (total.inputs[0], None) if total.op_type == "ReduceSumSquare" else _squared(total.inputs[0])
    if squared is None:
        return None
    return MeanSquare(squared[0], axes, epsilon, (*nodes, node, total, *([squared[1]] if squared[1] is not None else [])))


def _squared(value: ir.Value | None) -> tuple[ir.Value, ir.Node] | None:
    node = producer(value, "Mul", "Pow")
    if node is None or node.inputs[0] is None:
        return None
    fits = node.inputs[0] is node.inputs[1] if node.op_type == "Mul" else exponent_of(node) == 2
    return (node.inputs[0], node) if fits else None


def kept_axes(node: ir.Node) -> tuple[int, ...] | None:
    """The axes that a reduction of floats keeps as 1, from 0 and in order; None when there are none, or they are not known or not kept."""
    x = node.inputs[0]
    if attribute(node, "keepdims", 1) != 1 or x is None or x.dtype not in FLOATS:
        return None
    return reduced_axes(node) or None


def centred(d: ir.Value, axes: tuple[int, ...]) -> tuple[ir.Value, tuple[ir.Node, ...]] | None:
    """x when ``d`` is x minus its mean over ``axes``, and the nodes that say so."""
    node = producer(d, "Sub")
    mean = producer(node.inputs[1], "ReduceMean") if node is not None else None
    if node is None or mean is None or mean.inputs[0] is not node.inputs[0] or kept_axes(mean) != axes or mean.inputs[0] is None:
        return None
    return mean.inputs[0], (node, mean)
