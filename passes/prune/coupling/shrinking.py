"""Taking classes of indices out of a graph: smaller constants, and operators told of their new sizes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from ....compiler.core.errors import PassError
from ....compiler.core.graph import all_graphs, array, attribute, constant, make_constant, node_label, opset
from ....compiler.core.names import Names
from ....compiler.core.shapes import dims_of, infer_shapes
from ....compiler.core.target import STANDARD_DOMAINS
from .follower import Axes, Axis, Follower
from .movement import sliced_axes
from .recurrent import GATES

__all__ = ["kept", "shrink"]


def shrink(model: ir.Model, follower: Follower, gone: Iterable[int]) -> None:
    """Take the classes ``gone`` (of `groups.Group.members`) out of ``model``, in place, and infer its shapes anew.

    Raises PassError naming the value whose shape is then not what it should be; the model is broken in that case: work on a copy.
    """
    cut = Cut(follower, np.unique(np.fromiter(gone, np.int64)), Names(model))
    expected = {value: cut.lengths(axes) for value, axes in follower.axes.items()}
    for node in [node for graph in all_graphs(model) for node in graph]:
        told = TOLD.get(node.op_type) if node.domain in STANDARD_DOMAINS else None
        if told is not None:
            told(node, cut)
    for graph in all_graphs(model):
        for value in list(graph.initializers.values()):
            if value in follower.axes:
                _shorten(value, cut, follower.axes[value])
    infer_shapes(model)
    for value, lengths in expected.items():
        _check(value, lengths)


@dataclass(frozen=True)
class Cut:
    """What goes: its classes, sorted."""

    follower: Follower
    gone: np.ndarray
    names: Names

    def keeps(self, axis: Axis) -> np.ndarray:
        """Which indices of an axis stay, bool [length]."""
        return kept(self.follower, self.gone, axis)

    def lengths(self, axes: Axes) -> tuple[int | None, ...]:
        """The lengths of the axes afterwards."""
        return tuple(None if axis is None else int(self.keeps(axis).sum()) for axis in axes)

    def share(self, value: ir.Value | None, axis: int) -> tuple[int, int]:
        """The length of an axis afterwards and before; 0 and 0 where nothing is known of it."""
        axes = self.follower.axes_of(value)
        kept = self.keeps(axes[axis]) if len(axes) > axis else np.ones(0, bool)
        return int(kept.sum()), len(kept)


def kept(follower: Follower, gone: np.ndarray, axis: Axis) -> np.ndarray:
    """Which indices of an axis stay when these classes go, bool [length]; nothing of an axis of unknown length."""
    if axis is None:
        return np.ones(0, bool)
    return ~np.isin(follower.classes.find(axis), gone)


def _shorten(value: ir.Value, cut: Cut, axes: Axes) -> None:
    keeps = [cut.keeps(axis) for axis in axes]
    if all(keep.all() for keep in keeps):
        return
    tensor = constant(value)
    assert tensor is not None
    content = tensor.numpy()
    for place, keep in enumerate(keeps):
        if not keep.all():
            content = np.compress(keep, content, axis=place)
    value.const_value = ir.tensor(np.ascontiguousarray(content), dtype=tensor.dtype, name=value.name)
    value.shape = ir.Shape(content.shape)


def _check(value: ir.Value, lengths: tuple[int | None, ...]) -> None:
    dims = dims_of(value)
    for place, length in enumerate(lengths):
        if dims is None or (length is not None and isinstance(dims[place], int) and dims[place] != length):
            raise PassError(f"pruning left '{value.name}' with the shape {dims}, where axis {place} should have {length} indices")


def _tell_shape(node: ir.Node, cut: Cut) -> None:
    """Reshape, Expand: lengths that changed, said in the target shape; 0 and -1 go on by themselves."""
    result = node.outputs[0]
    axes = cut.follower.axes_of(result)
    changed = {place: new for place, axis in enumerate(axes) if axis is not None and (new := int(cut.keeps(axis).sum())) != len(axis)}
    if not changed:
        return
    target = array(node.inputs[1])
    if target is not None:
        _put(node, 1, np.array([changed.get(place, size) if size > 0 else size for place, size in enumerate(target.tolist())], np.int64), cut)
        return
    told = np.array([changed.get(place, 0) for place in range(len(axes))], np.int64)
    graph = node.graph
    assert graph is not None
    mask, sizes = (make_constant(graph, item, cut.names.fresh(f"{result.name}_{what}")) for item, what in ((told > 0, "pruned"), (told, "sizes")))
    where = ir.Node("", "Where", [mask, sizes, node.inputs[1]], name=cut.names.fresh(f"{result.name}_shape"))
    where.outputs[0].name = cut.names.fresh(f"{result.name}_target")
    graph.insert_before(node, where)
    node.replace_input_with(1, where.outputs[0])


def _tell_split(node: ir.Node, cut: Cut) -> None:
    """The length of each piece."""
    along = int(attribute(node, "axis", 0)) % len(cut.follower.axes_of(node.inputs[0]))  # type: ignore[call-overload]
    pieces = [cut.share(value, along) for value in node.outputs]
    if all(new == old for new, old in pieces):
        return
    sizes = np.array([new for new, _ in pieces], np.int64)
    node.attributes.pop("num_outputs", None)
    if "split" in node.attributes or opset(node.graph) < 13:  # type: ignore[arg-type]
        node.attributes["split"] = ir.AttrInt64s("split", sizes.tolist())
    elif len(node.inputs) > 1:
        _put(node, 1, sizes, cut)
    else:
        node.resize_inputs(2)
        _put(node, 1, sizes, cut)


def _tell_slice(node: ir.Node, cut: Cut) -> None:
    """Where the run starts and ends among what stays."""
    cuts = sliced_axes(node)
    axes = cut.follower.axes_of(node.inputs[0])
    if cuts is None or all(cut.keeps(axes[place]).all() for place in cuts if axes[place] is not None):
        return
    starts, ends, steps = [], [], []
    for place, (start, end, step) in cuts.items():
        kept = cut.keeps(axes[place])
        if axes[place] is not None and not kept.all():
            first, last, _ = slice(start, end).indices(len(kept))
            start, end = int(kept[:first].sum()), int(kept[:first].sum() + kept[first : max(first, last)].sum())
        starts.append(start)
        ends.append(end)
        steps.append(step)
    node.resize_inputs(5)
    for place, numbers in enumerate((starts, ends, list(cuts), steps), 1):
        _put(node, place, np.array(numbers, np.int64), cut)


def _tell_gather(node: ir.Node, cut: Cut) -> None:
    """Where what was picked lies now, without what is gone."""
    axes, indices = cut.follower.axes_of(node.inputs[0]), array(node.inputs[1])
    along = int(attribute(node, "axis", 0)) % len(axes) if axes else 0  # type: ignore[call-overload]
    kept = cut.keeps(axes[along]) if axes else np.ones(0, bool)
    if indices is None or kept.all():
        return
    places = np.cumsum(kept) - 1
    chosen = indices % len(kept)
    _put(node, 1, places[chosen[kept[chosen]]].astype(indices.dtype), cut)


def _tell_resize(node: ir.Node, cut: Cut) -> None:
    """The sizes asked for, where they are said in numbers."""
    sizes = array(node.inputs[3]) if len(node.inputs) > 3 else None
    axes = cut.follower.axes_of(node.inputs[0])
    if sizes is not None and len(sizes) == len(axes):
        lengths = cut.lengths(axes)
        changed = [(length is not None and length != len(axis)) if axis is not None else False for axis, length in zip(axes, lengths, strict=True)]
        if any(changed):
            _put(node, 3, np.array([new if is_new else old for old, new, is_new in zip(sizes.tolist(), lengths, changed, strict=True)], np.int64), cut)


def _tell_conv(node: ir.Node, cut: Cut) -> None:
    """How many groups are left where whole groups went."""
    groups = int(attribute(node, "group", 1))  # type: ignore[call-overload]
    new, old = cut.share(node.inputs[0], 1)
    inner = cut.share(node.inputs[1], 1)
    if groups > 1 and new != old and inner[0] == inner[1]:
        node.attributes["group"] = ir.AttrInt64("group", groups * new // old)


def _tell_conv_transpose(node: ir.Node, cut: Cut) -> None:
    groups = int(attribute(node, "group", 1))  # type: ignore[call-overload]
    new, old = cut.share(node.inputs[0], 1)
    if groups > 1 and new != old:
        node.attributes["group"] = ir.AttrInt64("group", groups * new // old)


def _tell_groups(node: ir.Node, cut: Cut) -> None:
    """Groups of one channel are as many as channels."""
    new, old = cut.share(node.inputs[0], 1)
    if new != old and int(attribute(node, "num_groups", 1)) == old:  # type: ignore[call-overload]
        node.attributes["num_groups"] = ir.AttrInt64("num_groups", new)


def _tell_heads(node: ir.Node, cut: Cut) -> None:
    """The number of heads, where they lie in the last axis."""
    for place, name in ((0, "q_num_heads"), (1, "kv_num_heads"), (0, "num_heads")):
        count = int(attribute(node, name, 0))  # type: ignore[call-overload]
        axes = cut.follower.axes_of(node.inputs[place])
        if count and len(axes) == 3 and axes[2] is not None:
            new, old = cut.share(node.inputs[place], 2)
            node.attributes[name] = ir.AttrInt64(name, count * new // old)


def _tell_recurrent(node: ir.Node, cut: Cut) -> None:
    """The width of the hidden state."""
    axes = cut.follower.axes_of(node.inputs[2])
    if len(axes) == 3 and axes[2] is not None:
        node.attributes["hidden_size"] = ir.AttrInt64("hidden_size", cut.share(node.inputs[2], 2)[0])


def _put(node: ir.Node, place: int, content: np.ndarray, cut: Cut) -> None:
    """Let an input be a constant of its own with this content."""
    graph = node.graph
    assert graph is not None, node_label(node)
    node.replace_input_with(place, make_constant(graph, content, cut.names.fresh(f"{node.outputs[0].name}_{place}")))


TOLD: dict[str, Callable[[ir.Node, Cut], None]] = {
    **dict.fromkeys(("Reshape", "Expand"), _tell_shape),
    "Split": _tell_split,
    "Slice": _tell_slice,
    "Gather": _tell_gather,
    "Resize": _tell_resize,
    "Conv": _tell_conv,
    "ConvTranspose": _tell_conv_transpose,
    "GroupNormalization": _tell_groups,
    **dict.fromkeys(("Attention", "RotaryEmbedding"), _tell_heads),
    **dict.fromkeys(GATES, _tell_recurrent),
}
