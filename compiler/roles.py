"""What each input of a model is for, found by following it through the graph to the operators that give it a meaning."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from .core.graph import all_graphs, array, attribute, is_op, scalar, subgraphs_of
from .core.target import STANDARD_DOMAINS

__all__ = ["Role", "makes_sizes", "roles"]

_MOVING = (
    "Cast CastLike Identity Reshape Squeeze Unsqueeze Transpose Flatten Expand Slice Concat Tile Split Pad Abs Neg Min Max Clip Mul Mod Trilu "
    "Add Sub Where CumSum ReduceSum ReduceMax ReduceMin ArgMax ScatterND ScatterElements Gather GatherND GatherElements SequenceAt "
    "SequenceConstruct ConcatFromSequence SplitToSequence OptionalGetElement Optional If Loop Scan SequenceInsert"
)
_MOVES = frozenset(_MOVING.split())
"""Operators behind which the input is still recognisable."""

_SIZES = {
    ("Reshape", 1): "reshape", ("Expand", 1): "ones", ("Tile", 1): "ones", ("ConstantOfShape", 0): "small", ("Range", 0): "zero",
    ("Range", 1): "small", ("Range", 2): "ones", ("TopK", 1): "ones", ("Slice", 1): "zero", ("Slice", 2): "small", ("Slice", 3): "axes",
    ("Slice", 4): "ones", ("Pad", 1): "zero", ("Pad", 3): "axes", ("Resize", 2): "ones", ("Resize", 3): "shape", ("Upsample", 1): "ones",
    ("Split", 1): "parts", ("Squeeze", 1): "axes", ("Unsqueeze", 1): "axes", ("Loop", 0): "small", ("OneHot", 1): "small", ("CumSum", 1): "zero",
    ("Trilu", 1): "zero", ("NonMaxSuppression", 2): "small", ("CenterCropPad", 1): "shape", ("AffineGrid", 1): "small", ("DFT", 1): "small",
    ("STFT", 1): "ones", ("STFT", 3): "small", ("HannWindow", 0): "small", ("HammingWindow", 0): "small", ("BlackmanWindow", 0): "small",
    ("SequenceAt", 1): "zero", ("SequenceErase", 1): "zero", ("SequenceInsert", 2): "zero", ("SplitToSequence", 1): "parts",
    ("GroupQueryAttention", 6): "small", ("MaxUnpool", 2): "shape", ("Dropout", 1): "zero",
}  # fmt: skip
"""Operands that hold sizes, places or counts, and what is worth trying for them."""
_LENGTHS = {("LSTM", 4), ("GRU", 4), ("RNN", 4), ("ReverseSequence", 1)}
_ALLOCATING = {("ConstantOfShape", 0), ("Range", 0), ("Range", 1), ("Range", 2), ("Expand", 1), ("Tile", 1), ("Pad", 1), ("Resize", 2), ("Resize", 3)}
_ALLOCATING |= {("Upsample", 1), ("OneHot", 1), ("Loop", 0), ("HannWindow", 0), ("HammingWindow", 0), ("BlackmanWindow", 0), ("AffineGrid", 1)}
MAX_COMPARED_BYTES = 16 << 20
MAX_CHOICES = 8
_COMPARISONS = ("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual")


@dataclass
class Role:
    """What is known of one input.

    ``rows``: its numbers index tables, the smallest of which has so many rows. ``shared``: the input indexes an axis of a size not known here.
    ``mask``: it holds zeros and ones. ``choices``: numbers that it is compared with. ``size``: it holds sizes, of the given kind.
    ``length``: it holds sequence lengths.
    """

    rows: int | None = None
    shared: bool = False
    mask: bool = False
    choices: list[float] = field(default_factory=list)
    size: str = ""
    length: bool = False

    def narrow(self, rows: int) -> None:
        """Note a table of so many rows."""
        self.rows = rows if self.rows is None else min(self.rows, rows)


def roles(model: ir.Model) -> dict[str, Role]:
    """The role of every graph input, by name. Shapes of intermediate values help (`shapes.infer_shapes`) but are not needed."""
    follower = _Follower(model)
    return {value.name or "": follower.follow(value) for value in model.graph.inputs}


def makes_sizes(start: ir.Value) -> bool:
    """Whether the content of ``start`` may decide how large something gets or how long a loop runs: wild numbers would take all memory."""
    stack, seen = [start], {start}
    while stack:
        for node, index in stack.pop().uses():
            if node.domain in STANDARD_DOMAINS and (node.op_type, index) in _ALLOCATING:
                return True
            if is_op(node, "Shape", "Size"):
                continue
            inner = [value for graph in subgraphs_of(node) for value in (*graph.inputs, *graph.outputs)]
            for value in (*node.outputs, *inner):
                if value not in seen:
                    seen.add(value)
                    stack.append(value)
    return False


class _Follower:
    def __init__(self, model: ir.Model) -> None:
        self.functions = {(function.domain, function.name): function for function in model.functions.values()}
        self.owner: dict[ir.Graph, ir.Node] = {}
        for graph in all_graphs(model):
            for node in graph:
                self.owner.update(dict.fromkeys(subgraphs_of(node), node))
        for function in model.functions.values():
            for node in function.all_nodes():
                self.owner.update(dict.fromkeys(subgraphs_of(node), node))

    def follow(self, start: ir.Value) -> Role:
        """Breadth first, with the number that was added on the way (None when more than that was done)."""
        role = Role()
        queue: deque[tuple[ir.Value, float | None]] = deque([(start, 0)])
        seen: set[ir.Value] = set()
        while queue:
            value, offset = queue.popleft()
            if value in seen:
                continue
            seen.add(value)
            for node, index in value.uses():
                _note(role, node, index, offset, plain=offset == 0 or not _is_float(start))
                queue.extend((made, _offset_after(node, index, offset)) for made in self._onward(node, index))
            queue.extend((made, offset) for made in self._out_of(value))
        return role

    def _onward(self, node: ir.Node, index: int) -> Iterator[ir.Value]:
        """The values in which the operand ``index`` of ``node`` lives on."""
        function = self.functions.get((node.domain, node.op_type))
        if function is not None:
            if index < len(function.inputs):
                yield function.inputs[index]
            for inner, outer in zip(function.outputs, node.outputs, strict=False):
                if inner in function.inputs and function.inputs.index(inner) == index:
                    yield outer
            return
        if is_op(node, "Scan") or (is_op(node, "Loop") and index >= 2):
            yield from (value for body in subgraphs_of(node) for value in body.inputs[index : index + 1])
        elif node.domain in STANDARD_DOMAINS and node.op_type in _MOVES and not _is_index(node, index):
            yield from node.outputs

    def _out_of(self, value: ir.Value) -> Iterator[ir.Value]:
        """Where the output of a subgraph goes on in the graph around it."""
        if not value.is_graph_output() or value.graph not in self.owner:
            return
        node, graph = self.owner[value.graph], value.graph
        skipped = 1 if is_op(node, "Loop") else 0
        for place, output in enumerate(graph.outputs):
            if output is value and 0 <= place - skipped < len(node.outputs):
                yield node.outputs[place - skipped]


def _is_float(value: ir.Value) -> bool:
    return value.dtype is not None and value.dtype.is_floating_point()


def _is_index(node: ir.Node, index: int) -> bool:
    return index == 1 and is_op(node, "Gather", "GatherND", "GatherElements", "ScatterND", "ScatterElements")


def _offset_after(node: ir.Node, index: int, offset: float | None) -> float | None:
    """What has been added to the input by the time it leaves ``node``."""
    if offset is None or is_op(node, "Mul", "Mod", "CumSum", "ReduceSum", "Neg", "Abs", "Clip", "Min", "Max", "ArgMax"):
        return None
    if not is_op(node, "Add", "Sub"):
        return offset
    number = scalar(node.inputs[1 - index])
    if number is None or (is_op(node, "Sub") and index == 1):
        return None
    return offset + number if is_op(node, "Add") else offset - number


def _note(role: Role, node: ir.Node, index: int, offset: float | None, plain: bool) -> None:
    """Learn from one use; behind arithmetic (not ``plain``) a float only has a meaning as a size."""
    if node.domain == "com.microsoft" and node.op_type == "EmbedLayerNormalization" and index < 2:
        _note_rows(role, node.inputs[2 if index == 0 else 4], 0, offset)
        return
    if node.domain not in (*STANDARD_DOMAINS, "com.microsoft"):
        return
    kind = node.op_type
    if (kind, index) in _LENGTHS:
        role.length = True
    elif (kind, index) in _SIZES:
        role.size = role.size or _SIZES[kind, index]
    elif kind.startswith("Reduce") and index == 1:
        role.size = role.size or "axes"
    elif not plain:
        return
    elif _is_index(node, index):
        _note_index(role, node, offset)
    elif kind == "OneHot" and index == 0:
        depth = scalar(node.inputs[1])
        role.narrow(int(depth)) if depth is not None else None
    else:
        _note_meaning(role, node, index)


def _note_index(role: Role, node: ir.Node, offset: float | None) -> None:
    if is_op(node, "GatherND", "ScatterND"):
        _note_rows(role, node.inputs[0], None, offset)
    else:
        _note_rows(role, node.inputs[0], int(attribute(node, "axis", 0)), offset)  # type: ignore[call-overload]


def _note_rows(role: Role, table: ir.Value | None, axis: int | None, offset: float | None) -> None:
    shape = table.shape if table is not None else None
    if shape is None or (axis is not None and not -len(shape) <= axis < len(shape)):
        role.shared = True
        return
    dims = list(shape) if axis is None else [shape[axis]]
    known = [dim for dim in dims if isinstance(dim, int)]
    role.shared = role.shared or len(known) < len(dims)
    if known and offset is not None:
        role.narrow(max(1, min(known) - int(offset)))
    elif known:
        role.shared = True


def _note_meaning(role: Role, node: ir.Node, index: int) -> None:
    if is_op(node, *_COMPARISONS):
        _note_comparison(role, array(node.inputs[1 - index], max_bytes=MAX_COMPARED_BYTES))
    elif _reads_mask(node, index):
        role.mask = True


def _reads_mask(node: ir.Node, index: int) -> bool:
    """Whether this operand is taken for true or false."""
    if is_op(node, "Cast"):
        return attribute(node, "to") == ir.DataType.BOOL
    if is_op(node, "Where"):
        return index == 0
    if is_op(node, "Sub"):
        return index == 1 and scalar(node.inputs[0]) == 1
    return is_op(node, "Not", "And", "Or", "Xor", "If", "NonZero", "Compress")


def _note_comparison(role: Role, compared: np.ndarray | None) -> None:
    """Being compared with all of 0, 1, ... n - 1 is being one-hot encoded."""
    if compared is None or compared.dtype.kind in "OSU":
        return
    numbers = np.unique(compared)
    if len(numbers) > MAX_CHOICES:
        if np.array_equal(numbers, np.arange(len(numbers))):
            role.narrow(len(numbers))
        return
    role.choices.extend(number for number in numbers.astype(float).tolist() if number not in role.choices)
