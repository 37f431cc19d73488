"""Writes a placement into a graph: QuantizeLinear and DequantizeLinear around what computes on integers, integers through what moves them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from ...compiler.core.graph import array, erase, is_op, make_constant, scalar, schema_default, swap_names, sweep
from ...compiler.core.names import Names
from ...compiler.core.sites import Site
from .grid import Grid
from .kept_floats import keep_floats, keep_pools
from .placement import CLAMPS, Placement, quantised_inputs
from .steps import Steps, steps_for

__all__ = ["StoredWeight", "Writer", "activation_grid"]

Pair = tuple[ir.Value, ir.Value]
BIASED = 3
"""Inputs of a convolution or a Gemm with a bias."""
SIGNED = {np.dtype(np.int8): 128, np.dtype(np.int16): 32768}
"""What is taken off an unsigned code to get the signed one of the same number."""


@dataclass(frozen=True)
class StoredWeight:
    """A weight as it goes into the file: codes in the layout of the weight, scales float32 [M] along ``axis`` or a single one, [].

    ``zero`` is the code of 0 for all channels. ``bias`` [M] is int32, in steps of ``scales`` times the scale of the data; float32 where the runtime counts
    it out by itself; or None, where the node keeps the one it has. ``added`` is an addition of it that goes: the product becomes a Gemm.
    """

    codes: np.ndarray
    scales: np.ndarray
    axis: int
    zero: int = 0
    bias: np.ndarray | None = None
    added: ir.Node | None = None


def activation_grid(dtype: np.dtype, symmetric: bool) -> Grid:
    """The grid of activations stored as ``dtype``: codes of an asymmetric one count from 0, whatever the sign of what is stored."""
    return Grid(dtype.itemsize * 8, symmetric)


@dataclass
class Writer:
    """Writes what was decided for one graph. ``steps`` are by the root of a group of values, on the grid of `activation_grid`."""

    model: ir.Model
    found: Placement
    steps: Mapping[ir.Value, Steps]
    dtype: np.dtype
    names: Names = field(init=False)
    codes: dict[ir.Value, ir.Value] = field(default_factory=dict)
    floats: dict[ir.Value, ir.Value] = field(default_factory=dict)
    gemms: dict[ir.Node, ir.Node] = field(default_factory=dict)
    """A product whose addition it took up -> the Gemm that stands for both."""
    _pairs: dict[ir.Value, Pair] = field(default_factory=dict)
    _zeros: dict[tuple[object, ...], ir.Value] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.names = Names(self.model)

    def write(self, weights: Mapping[ir.Node, StoredWeight]) -> None:
        """Change the graph; ``weights`` are those of every site of the placement, and of sites that only store theirs in codes."""
        for value in self.found.coded:
            self._encode(value)
        for node in self.found.mixes:
            self._encode_constants(node)
        for node, weight in weights.items():
            self._store(node, weight)
        keep_floats(self.model, {*self.found.sites, *self.gemms.values()}, self.names)
        sweep([*self.found.clamps.values(), *self.found.moves])
        keep_pools(self.model, self.names)
        self.model.graph.sort()

    def data_scale(self, site: Site) -> float:
        """The scale of what a site reads."""
        return self._scale_of(site.data)

    def _scale_of(self, value: ir.Value) -> float:
        maker = value.producer()
        if value not in self.found.coded and maker is not None and is_op(maker, "DequantizeLinear"):
            return float(scalar(maker.inputs[1]) or 0.0)
        return float(self.steps[self.found.root(value)].scales[0, 0])

    def _encode(self, value: ir.Value) -> None:
        """Make the codes of a value, and let everybody who needs them, or has nothing else to read, read them."""
        maker = value.producer()
        moved = maker in self.found.moves
        source = self._inner(value)
        wholly = moved or source is not value or (maker is not None and self.found.gives_codes(maker))
        readers = [(user, index) for user, index in value.uses() if self._reads_numbers(user, index, wholly)]
        outside = value.is_graph_output() and wholly
        if moved and maker is not None:
            self._move(maker)
        else:
            self.codes[value] = self._bounded(value, self._quantise(source, self._pair(value)))
            if wholly:
                self._shorten(source)
        if not readers and not outside:
            return
        number = self._dequantise(self.codes[value], self._pair(value), value)
        self.floats[value] = number
        for user, index in readers:
            user.replace_input_with(index, number)
        if outside:
            self._give_out(value, number)

    def _shorten(self, source: ir.Value) -> None:
        """What only one QuantizeLinear reads is nowhere to be seen any more: it needs no long name, nor its maker attributes that say what holds anyway."""
        maker = source.producer()
        assert maker is not None
        if not source.is_graph_output():
            source.name = self.names.fresh("x")
        for key in [key for key, item in maker.attributes.items() if item.value == schema_default(maker, key) or _is_implied(maker, item)]:
            del maker.attributes[key]

    def _reads_numbers(self, user: ir.Node, index: int, wholly: bool) -> bool:
        """Whether this use of a coded value reads what its codes stand for (and not the codes, or the value as it was)."""
        integer = user in self.found.integer and index in quantised_inputs(user, self.found)
        return user not in self.found.moves if integer else wholly

    def _inner(self, value: ir.Value) -> ir.Value:
        """What the operator behind an absorbed clamp makes; any other value is itself."""
        maker = value.producer()
        if maker is None or maker.op_type not in CLAMPS:
            return value
        before = maker.inputs[0].producer() if maker.inputs[0] is not None else None
        return before.outputs[0] if before is not None and self.found.clamps.get(before) is maker else value

    def _bounded(self, value: ir.Value, codes: ir.Value) -> ir.Value:
        """Codes bounded as the absorbed clamp bounds numbers, where the range of codes does not do it already."""
        if self._inner(value) is value:
            return codes
        clamp = value.producer()
        assert clamp is not None
        low, high = self._bounds(clamp, self.found.root(value))
        limits = np.iinfo(self.dtype)
        if low <= limits.min and high >= limits.max:
            return codes
        return self._clip(codes, low, high, value)

    def _clip(self, codes: ir.Value, low: int, high: int, like: ir.Value) -> ir.Value:
        limits = np.iinfo(self.dtype)
        ends = [None if end in (limits.min, limits.max) else self._constant(np.array(end, self.dtype), "c") for end in (low, high)]
        return self._node("Clip", [codes, *ends], like, self.dtype)

    def _bounds(self, clamp: ir.Node, root: ir.Value) -> tuple[int, int]:
        """The codes at which a clamp cuts."""
        if clamp.op_type == "Relu":
            ends: list[float] = [0.0, np.inf]
        else:
            given = [*clamp.inputs[1:], None, None][:2]
            ends = [end if value is None else float(scalar(value) or 0.0) for value, end in zip(given, (-np.inf, np.inf), strict=True)]
        return self._code(ends[0], root), self._code(ends[1], root)

    def _code(self, number: float, root: ir.Value) -> int:
        steps, limits = self.steps[root], np.iinfo(self.dtype)
        return int(np.clip(np.rint(number / float(steps.scales[0, 0])) + self._zero(steps), limits.min, limits.max))

    def _zero(self, steps: Steps) -> int:
        """The code of 0, of the type that is stored."""
        if steps.zeros is None:
            return 0 if self.dtype in SIGNED else 1 << (steps.grid.bits - 1)
        return int(steps.zeros[0, 0]) - SIGNED.get(self.dtype, 0)

    def _move(self, node: ir.Node) -> None:
        """The node once more, on codes; for one that has been moved already, nothing."""
        if node.outputs[0] in self.codes or node.inputs[0] is None:
            return
        codes, root = self.codes[node.inputs[0]], self.found.root(node.outputs[0])
        if node.op_type in CLAMPS:
            self.codes[node.outputs[0]] = self._clip(codes, *self._bounds(node, root), node.outputs[0])
            return
        others: list[ir.Value | None] = list(node.inputs[1:])
        if node.op_type == "Pad" and _fills(node):
            number = scalar(others[1]) if len(others) > 1 and others[1] is not None else 0.0
            fill = self._constant(np.array(self._code(float(number or 0.0), root), self.dtype), "c")
            others[1:2] = [fill]
        made = ir.Node("", node.op_type, [codes, *others], list(node.attributes.values()), num_outputs=len(node.outputs))
        for old, new in zip(node.outputs, made.outputs, strict=True):
            self._declare(new, old, self.dtype, "q")
            self.codes[old] = new
        self._add(made)

    def _encode_constants(self, node: ir.Node) -> None:
        for index in quantised_inputs(node, self.found):
            value = node.inputs[index]
            content = array(value)
            if value is None or content is None:
                continue
            joined = self.found.root(value)
            steps = self.steps[joined] if joined in self.steps else _steps_of(content, self.dtype)
            codes = np.clip(np.rint(content / steps.scales[0, 0]) + self._zero(steps), np.iinfo(self.dtype).min, np.iinfo(self.dtype).max)
            stored = self._constant(codes.astype(self.dtype), "w")
            node.replace_input_with(index, self._dequantise(stored, self._parameters(steps), value))

    def _store(self, node: ir.Node, weight: StoredWeight) -> None:
        """Let a node read its weight, and its bias, from integers."""
        codes = self._constant(weight.codes, "w")
        pair = self._constant(weight.scales, "s"), self._zeros_like(weight, node)
        if node.op_type == "Gather":
            self._decode_rows(node, codes, pair)
            return
        site = self.found.sites.get(node)
        at = site.weight_at if site is not None else 1
        old = node.inputs[at]
        assert old is not None
        node.replace_input_with(at, self._dequantise(codes, pair, old, weight.axis if weight.scales.ndim else None))
        if weight.bias is None or site is None:
            return
        bias = self._bias(weight, self.data_scale(site), pair[0])
        if weight.added is not None:
            self._as_gemm(node, weight.added, bias)
            return
        if len(node.inputs) < BIASED:
            node.resize_inputs(BIASED)
        node.replace_input_with(BIASED - 1, bias)

    def _bias(self, weight: StoredWeight, data_scale: float, scales: ir.Value) -> ir.Value:
        assert weight.bias is not None
        stored = self._constant(weight.bias, "b")
        if weight.bias.dtype == np.float32:
            return stored
        steps = self._constant((weight.scales * np.float32(data_scale)).astype(np.float32), "s")
        return self._node("DequantizeLinear", [stored, steps], stored, np.dtype(np.float32), {"axis": 0} if weight.scales.ndim else {})

    def _as_gemm(self, product: ir.Node, added: ir.Node, bias: ir.Value) -> None:
        """Integer kernels have room for a bias in a Gemm only."""
        made = ir.Node("", "Gemm", [*product.inputs, bias])
        old = added.outputs[0]
        self._declare(made.outputs[0], old, np.dtype(np.float32), "gemm")
        self._add(made)
        self.gemms[product] = made
        for user, index in list(old.uses()):
            user.replace_input_with(index, made.outputs[0])
        if old.is_graph_output():
            self._give_out(old, made.outputs[0])
        erase(added)
        erase(product)

    def _decode_rows(self, node: ir.Node, codes: ir.Value, pair: tuple[ir.Value, ir.Value | None]) -> None:
        """An embedding looks up codes, and what it found is decoded: the whole table never is."""
        old = node.outputs[0]
        found = ir.Node("", "Gather", [codes, node.inputs[1]], list(node.attributes.values()))
        assert codes.dtype is not None
        self._declare(found.outputs[0], old, codes.dtype.numpy(), "q")
        self._add(found)
        number = self._dequantise(found.outputs[0], pair, old, -1)
        for user, index in list(old.uses()):
            user.replace_input_with(index, number)
        if old.is_graph_output():
            self._give_out(old, number)
        erase(node)

    def _give_out(self, old: ir.Value, new: ir.Value) -> None:
        outputs = self.model.graph.outputs
        for place, value in enumerate(outputs):
            if value is old:
                outputs[place] = new
        swap_names(old, new, self.names)

    def _zeros_like(self, weight: StoredWeight, node: ir.Node) -> ir.Value | None:
        """Zero points for the scales; a convolution takes 0 for those that are not there, the matrix products of ONNX Runtime do not."""
        if not weight.zero and node.op_type not in ("Gemm", "MatMul"):
            return None
        key = (weight.zero, weight.codes.dtype.name, *weight.scales.shape)
        if key not in self._zeros:
            self._zeros[key] = self._constant(np.full(weight.scales.shape, weight.zero, weight.codes.dtype), "z")
        return self._zeros[key]

    def _pair(self, value: ir.Value) -> Pair:
        root = self.found.root(value)
        if root not in self._pairs:
            self._pairs[root] = self._parameters(self.steps[root])
        return self._pairs[root]

    def _parameters(self, steps: Steps) -> Pair:
        scale = self._constant(np.array(steps.scales[0, 0], np.float32), "s")
        return scale, self._constant(np.array(self._zero(steps), self.dtype), "z")

    def _quantise(self, value: ir.Value, pair: Pair) -> ir.Value:
        return self._node("QuantizeLinear", [value, *pair], value, self.dtype)

    def _dequantise(self, codes: ir.Value, pair: tuple[ir.Value, ir.Value | None], like: ir.Value, axis: int | None = None) -> ir.Value:
        return self._node("DequantizeLinear", [codes, *pair], like, np.dtype(np.float32), {} if axis is None else {"axis": axis})

    def _node(self, kind: str, inputs: Sequence[ir.Value | None], like: ir.Value, dtype: np.dtype, attributes: Mapping[str, int] | None = None) -> ir.Value:
        while inputs and inputs[-1] is None:
            inputs = inputs[:-1]
        made = ir.Node("", kind, inputs, [ir.AttrInt64(key, item) for key, item in (attributes or {}).items()])
        self._declare(made.outputs[0], like, dtype, "d" if kind == "DequantizeLinear" else "q")
        self._add(made)
        return made.outputs[0]

    def _add(self, node: ir.Node) -> None:
        """Into the graph, without a name: there are several of these nodes for each that was there, and their outputs have names."""
        self.model.graph.append(node)
        node.name = ""

    def _declare(self, value: ir.Value, like: ir.Value, dtype: np.dtype, hint: str) -> None:
        value.name = self.names.fresh(hint)
        value.type = ir.TensorType(ir.DataType.from_numpy(dtype))
        value.shape = like.shape

    def _constant(self, content: np.ndarray, hint: str) -> ir.Value:
        """There are several for each operator: with names of a letter they take 1 % less of a small file."""
        return make_constant(self.model.graph, content, self.names.fresh(hint))


def _steps_of(content: np.ndarray, dtype: np.dtype) -> Steps:
    low, high = float(content.min(initial=0.0)), float(content.max(initial=0.0))
    return steps_for(np.array([[low]]), np.array([[high]]), activation_grid(dtype, symmetric=False))


def _is_implied(node: ir.Node, item: ir.Attr) -> bool:
    if node.op_type != "Conv":
        return False
    if item.name in ("dilations", "strides"):
        return set(item.as_ints()) == {1}
    return item.name == "kernel_shape" or (item.name == "pads" and not any(item.as_ints()))


def _fills(node: ir.Node) -> bool:
    mode = node.attributes.get("mode")
    return mode is None or mode.as_string() == "constant"
