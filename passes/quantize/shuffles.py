"""Channel shuffles of what was just joined, written as joining along a new axis: the codes of a transposed byte are moved one by one."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ...compiler.core.graph import attribute, is_op, make_constant, producer, sweep
from ...compiler.core.names import Names

__all__ = ["stack_shuffles"]


def stack_shuffles(model: ir.Model) -> int:
    """Transpose(Reshape(Concat(a, b, axis=k), [.., 2, n, ..])), k and k+1 swapped -> Concat(Unsqueeze(a), Unsqueeze(b), axis=k+1); how many there were.

    Exact: element i of a and of b come to lie side by side either way. Shapes have to be known along the axis.
    """
    names, count = Names(model), 0
    for node in list(model.graph):
        found = _shuffle(node)
        if found is not None:
            _stack(model.graph, node, *found, names)
            count += 1
    if count:
        model.graph.sort()
    return count


def _shuffle(transpose: ir.Node) -> tuple[ir.Node, int] | None:
    """The Concat that is shuffled by a Transpose, and its axis."""
    if not is_op(transpose, "Transpose") or transpose.outputs[0].is_graph_output():
        return None
    split = producer(transpose.inputs[0], "Reshape")
    joined = producer(split.inputs[0], "Concat") if split is not None else None
    if split is None or joined is None or not _alone(split.outputs[0]) or not _alone(joined.outputs[0]):
        return None
    shapes = [_dims(value) for value in (*joined.inputs, joined.outputs[0], split.outputs[0])]
    if not all(shapes):
        return None
    *parts, whole, cut = (list(shape or ()) for shape in shapes)
    axis = int(attribute(joined, "axis")) % len(whole)  # type: ignore[call-overload]
    order = list(range(len(cut)))
    order[axis : axis + 2] = [axis + 1, axis]
    wanted = [*whole[:axis], len(parts), parts[0][axis], *whole[axis + 1 :]]
    same = all(part[axis] == parts[0][axis] and isinstance(part[axis], int) for part in parts)
    perm = list(attribute(transpose, "perm", None) or ())  # type: ignore[call-overload]
    return (joined, axis) if same and cut == wanted and perm == order else None


def _stack(graph: ir.Graph, transpose: ir.Node, joined: ir.Node, axis: int, names: Names) -> None:
    place = make_constant(graph, np.array([axis + 1], np.int64), names.fresh("axis"))
    parts = []
    for value in joined.inputs:
        node = ir.Node("", "Unsqueeze", [value, place], name=names.fresh("unsqueeze"))
        made = node.outputs[0]
        dims = _dims(value) or ()
        made.name, made.type, made.shape = names.fresh("part"), joined.outputs[0].type, ir.Shape([*dims[: axis + 1], 1, *dims[axis + 1 :]])
        graph.append(node)
        parts.append(made)
    node = ir.Node("", "Concat", parts, [ir.AttrInt64("axis", axis + 1)], name=names.fresh("stack"))
    old, new = transpose.outputs[0], node.outputs[0]
    new.name, new.type, new.shape = names.fresh("stacked"), old.type, old.shape
    graph.append(node)
    for user, index in list(old.uses()):
        user.replace_input_with(index, new)
    sweep([transpose])


def _alone(value: ir.Value) -> bool:
    return len(list(value.uses())) == 1 and not value.is_graph_output()


def _dims(value: ir.Value | None) -> tuple[int | ir.SymbolicDim, ...] | None:
    return tuple(value.shape) if value is not None and value.shape is not None else None
