"""The mapping type between one input and the outputs of a node, from its shapes, attributes and constants."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from ..dims import Dim, same, same_shape
from ..graph import array, attribute, constant, opset
from ..shapes import dims_of, static_shape
from ..symbolic.reading import input_at, ints_at
from ..target import STANDARD_DOMAINS
from .mapping import Mapping
from .operators import CHANNELWISE, ELEMENTWISE, MICROSOFT_ELEMENTWISE, ROWS, is_parameter, operator_mapping

O2O, REORGANIZE, SHUFFLE, O2M, M2M, OPAQUE = Mapping
PER_AXIS_SINCE = 13
"""Before this opset Softmax took all axes from one on together."""


def mapping_of(node: ir.Node) -> Mapping:
    """The most complex of the node's pairs; of a node that reads nothing computed, what its operator is."""
    pairs = [pair_mapping(node, index) for index, value in enumerate(node.inputs) if value is not None and _is_data(node, index)]
    whole = operator_mapping(node)
    return OPAQUE if whole is OPAQUE else max(pairs, default=whole)


def pair_mapping(node: ir.Node, index: int) -> Mapping:
    """How the outputs depend on the input at ``index``.

    A constant operand is One-to-One, since it is there before the kernel runs. Opaque for an operand that is no data (a computed shape, say): it must be
    known before the kernel runs.
    """
    whole = operator_mapping(node)
    if whole is OPAQUE:
        return OPAQUE
    if constant(input_at(node, index)) is not None:
        return O2O
    if is_parameter(node, index):
        return OPAQUE
    if node.domain not in STANDARD_DOMAINS:
        return _broadcast(node, index) if node.op_type in MICROSOFT_ELEMENTWISE else whole
    if node.op_type in ELEMENTWISE:
        return _channel(node, index) if node.op_type in CHANNELWISE else _broadcast(node, index)
    variant = _VARIANTS.get(node.op_type)
    return variant(node, index) if variant is not None else _row(node, index) if node.op_type in ROWS else whole


def _is_data(node: ir.Node, index: int) -> bool:
    return not is_parameter(node, index) and constant(node.inputs[index]) is None


def _broadcast(node: ir.Node, index: int) -> Mapping:
    """One-to-One where the operand has the result's shape, One-to-Many where it is read more than once or that cannot be ruled out."""
    if len([value for value in node.inputs if value is not None]) == 1:
        return O2O
    made, read = dims_of(node.outputs[0]), dims_of(node.inputs[index])
    if made is None or read is None:
        return O2O if _others_are_numbers(node, index) else O2M
    padded = (1,) * (len(made) - len(read)) + tuple(read)
    return O2O if same_shape(padded, made) else O2M


def _others_are_numbers(node: ir.Node, index: int) -> bool:
    others = [constant(value) for place, value in enumerate(node.inputs) if place != index and value is not None]
    return all(tensor is not None and tensor.size == 1 for tensor in others)


def _channel(node: ir.Node, index: int) -> Mapping:
    """A statistic or scale that was computed is read for every element of its channel. Training mode takes its statistics of all elements."""
    if attribute(node, "training_mode", 0) == 1:
        return M2M
    return O2O if index == 0 else O2M


def _row(node: ir.Node, index: int) -> Mapping:
    """Without an axis to reduce, or where every one of them has size 1, each element is made of one."""
    if not node.op_type.startswith("Reduce") or index != 0:
        return M2M
    axes = reduced_axes(node)
    dims = dims_of(node.inputs[0])
    if axes == ():
        return O2O
    if dims is not None and axes is not None and all(dims[axis] == 1 for axis in axes):
        return REORGANIZE
    return M2M


def reduced_axes(node: ir.Node) -> tuple[int, ...] | None:
    """The axes that a Reduce operator takes together, not negative; None when that is not known."""
    dims = dims_of(input_at(node, 0))
    if dims is None:
        return None
    given = attribute(node, "axes") if "axes" in node.attributes else ints_at(node, 1) if input_at(node, 1) is not None else ()
    if given is None:
        return None
    axes = tuple(int(axis) for axis in given)  # type: ignore[attr-defined]
    if not axes and attribute(node, "noop_with_empty_axes", 0) != 1:
        return tuple(range(len(dims)))
    return tuple(sorted(axis % len(dims) for axis in axes if -len(dims) <= axis < len(dims)))


def _batch_norm(node: ir.Node, index: int) -> Mapping:
    return _channel(node, index)


def _expand(node: ir.Node, index: int) -> Mapping:
    return O2O if _keeps_shape(node) else O2M


def _reshape(node: ir.Node, index: int) -> Mapping:
    return O2O if _keeps_shape(node) else REORGANIZE


def _keeps_shape(node: ir.Node) -> bool:
    return same_shape(dims_of(node.inputs[0]), dims_of(node.outputs[0]))


def _transpose(node: ir.Node, index: int) -> Mapping:
    """A permutation that keeps the order of all dimensions but those of size 1 only gives the elements another shape."""
    dims = dims_of(node.inputs[0])
    perm = attribute(node, "perm")
    order = list(perm) if perm is not None else list(range(len(dims)))[::-1] if dims is not None else None  # type: ignore[call-overload]
    if order is None:
        return SHUFFLE
    if order == sorted(order):
        return O2O
    long = [axis for axis in order if dims is None or dims[axis] != 1]
    return REORGANIZE if long == sorted(long) else SHUFFLE


def _slice(node: ir.Node, index: int) -> Mapping:
    """Neighbours stay neighbours where the step is 1."""
    steps = input_at(node, 4)
    known = (1,) if steps is None else ints_at(node, 4)
    return O2O if known is not None and all(step == 1 for step in known) else SHUFFLE


def _pad(node: ir.Node, index: int) -> Mapping:
    if index == 2:
        return O2M
    return O2O if attribute(node, "mode", "constant") == "constant" else O2M


def _tile(node: ir.Node, index: int) -> Mapping:
    repeats = ints_at(node, 1)
    return O2O if repeats is not None and all(count == 1 for count in repeats) else O2M


def _resize(node: ir.Node, index: int) -> Mapping:
    """Interpolation makes each element of several."""
    if _keeps_shape(node):
        return O2O
    return O2M if attribute(node, "mode", "nearest") == "nearest" else M2M


def _gather(node: ir.Node, index: int) -> Mapping:
    """A constant choice without repetition picks (of neighbours in their order) or shuffles; an index that is computed is read for each element of a row."""
    if index == 1:
        table = static_shape(input_at(node, 0))
        axis = int(attribute(node, "axis", 0))  # type: ignore[call-overload]
        return O2O if table is not None and all(size == 1 for place, size in enumerate(table) if place != axis % len(table)) else O2M
    chosen = array(input_at(node, 1), max_bytes=1 << 16)
    if chosen is None or len(np.unique(chosen)) < chosen.size:
        return O2M
    flat = chosen.reshape(-1)
    return O2O if bool(np.all(np.diff(flat) == 1)) else SHUFFLE


def _concat(node: ir.Node, index: int) -> Mapping:
    """One value joined with itself is read twice."""
    return O2M if sum(value is node.inputs[index] for value in node.inputs) > 1 else O2O


def _einsum(node: ir.Node, index: int) -> Mapping:
    """What only reorders, or multiplies element by element, is no sum."""
    terms, arrow, result = str(attribute(node, "equation", "")).replace(" ", "").partition("->")
    letters = terms.split(",")
    if not arrow or "." in terms or index >= len(letters) or any(len(set(term)) < len(term) for term in (*letters, result)):
        return M2M
    if any(set(term) - set(result) for term in letters):
        return M2M
    own = letters[index]
    if set(own) != set(result):
        return O2M
    return O2O if own == result else SHUFFLE


def _rotary(node: ir.Node, index: int) -> Mapping:
    return SHUFFLE if index == 0 else O2M


def _reverse(node: ir.Node, index: int) -> Mapping:
    return SHUFFLE if index == 0 else O2M


def _softmax(node: ir.Node, index: int) -> Mapping:
    """Along one axis of size 1, every element is a row."""
    dims = dims_of(node.inputs[0])
    axis = int(attribute(node, "axis", -1))  # type: ignore[call-overload]
    lonely: Dim | None = dims[axis] if dims is not None and -len(dims) <= axis < len(dims) else None
    each_alone = node.graph is not None and opset(node.graph) >= PER_AXIS_SINCE
    return O2O if lonely is not None and same(lonely, 1) and each_alone else M2M


_VARIANTS: dict[str, Callable[[ir.Node, int], Mapping]] = {
    "BatchNormalization": _batch_norm,
    "Expand": _expand,
    "Reshape": _reshape,
    "Flatten": _reshape,
    "Squeeze": _reshape,
    "Unsqueeze": _reshape,
    "Transpose": _transpose,
    "Slice": _slice,
    "Pad": _pad,
    "Tile": _tile,
    "Resize": _resize,
    "Upsample": _resize,
    "Gather": _gather,
    "Concat": _concat,
    "Einsum": _einsum,
    "RotaryEmbedding": _rotary,
    "ReverseSequence": _reverse,
    "Softmax": _softmax,
    "LogSoftmax": _softmax,
}
