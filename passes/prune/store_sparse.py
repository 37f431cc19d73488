"""The pass that stores constants with many zeros without them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from ...compiler.core.build import Build
from ...compiler.core.drift import ROUNDING, Drift
from ...compiler.core.graph import STORED, all_graphs, constant, opset
from ...compiler.core.names import Names
from ...compiler.core.passes import Context, Pass
from ...compiler.core.target import PORTABLE, STANDARD_DOMAINS

__all__ = ["StoreSparse"]

SMALLEST = 1 << 12
"""Bytes of a constant that is worth the operators which unpack it."""
GAIN = 0.9
"""What is stored instead takes at most this part of it."""
OVERHEAD = 1 << 10
"""Bytes that the operators and names take in the file, about."""
CUMSUM = 11
"""The first opset that has what unpacks."""
FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.DOUBLE)
CODES = (ir.DataType.INT8, ir.DataType.UINT8)
MOST = 2**31 - 2
BITS = 8


@dataclass(frozen=True)
class StoreSparse(Pass):
    """Stores each large constant of which much is zero (of codes of 8 bits: is one and the same) as a bit for each number and the other numbers.

    Standard operators unpack it, which runtimes do once, when they load the model: the file is smaller, and what runs is what ran before. Comes last of all
    passes, for what looks for constants finds none there. Does nothing for targets that do not ship a model file. The numbers are the same bits; answers of a
    runtime that folds nothing may not be, for it packs constant weights and adds the products up in another order.
    """

    name: ClassVar[str] = "store-sparse"
    drift: ClassVar[Drift] = ROUNDING

    smallest: int = SMALLEST

    def run(self, model: ir.Model, context: Context) -> int:
        """Pack what gets smaller; returns how many constants were."""
        if context.target.backend != PORTABLE.backend or opset(model) < CUMSUM:
            return 0
        names, changes = Names(model), 0
        for graph in all_graphs(model):
            tables: list[ir.Value] = []
            for value in list(graph.initializers.values()):
                packed = self._packed(value)
                if packed is None or not context.ledger.permit(self.name, value.name or ""):
                    continue
                _replace(graph, value, packed, tables, names)
                changes += 1
        return changes

    def _packed(self, value: ir.Value) -> Packed | None:
        tensor = constant(value)
        if tensor is None or value.is_graph_output() or not self.smallest <= tensor.nbytes or tensor.size > MOST:
            return None
        standard = all(node.domain in STANDARD_DOMAINS for node, _ in value.uses())
        if not value.uses() or tensor.dtype not in (*FLOATS, *(CODES if standard else ())):
            return None
        packed = Packed.of(tensor.numpy())
        return packed if packed.bytes + OVERHEAD <= GAIN * tensor.nbytes else None


@dataclass(frozen=True)
class Packed:
    """An array without the number it has most of: ``values`` [1 + n] are that one and the others in order, ``bits`` say where those are, first bit first."""

    values: np.ndarray
    bits: np.ndarray
    shape: tuple[int, ...]

    @classmethod
    def of(cls, content: np.ndarray) -> Packed:
        """Zero is what is left out of floats, bit for bit: -0.0 is another number."""
        flat = np.ascontiguousarray(content).reshape(-1)
        if content.dtype.itemsize == 1:
            codes = flat.view(np.uint8)
            rest = codes != np.bincount(codes, minlength=256).argmax()
        else:
            rest = flat.view(f"u{content.dtype.itemsize}") != 0
        left_out = flat[~rest][:1] if not rest.all() else np.zeros(1, flat.dtype)
        return cls(np.concatenate([left_out, flat[rest]]), np.packbits(rest), content.shape)

    @property
    def bytes(self) -> int:
        """What it takes."""
        return int(self.values.nbytes + self.bits.nbytes)


def _replace(graph: ir.Graph, value: ir.Value, packed: Packed, tables: list[ir.Value], names: Names) -> None:
    """Let operators at the start of the graph make the value; those of one graph share the table of the bits of each byte."""
    op, hint = Build(), value.name or "weight"
    if not tables:
        tables.append(op.const(np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1), "bits_of_bytes"))
    stays = op.Cast(op.Gather(tables[0], op.Cast(op.const(packed.bits, f"{hint}_bits"), to=ir.DataType.INT32.value)), to=ir.DataType.INT32.value)
    flat = op.Reshape(stays, op.const([-1], "flat"))
    size = int(np.prod(packed.shape, dtype=np.int64))
    if size % BITS:
        flat = op.Slice(flat, op.const([0], "start"), op.const([size], "end"))
    places = op.Mul(op.CumSum(flat, op.const(np.array(0, np.int64), "axis")), flat)
    made = op.Reshape(op.Gather(op.const(packed.values, f"{hint}_values"), places), op.const(list(packed.shape), "shape"))
    assert isinstance(made, ir.Value)
    for node in op.nodes:
        node.name = names.fresh(f"{hint}_unpacked")
        node.metadata_props[STORED] = "unpacks a sparse weight"
        for output in node.outputs:
            output.name = names.fresh(f"{hint}_unpacked")
    for item in op.constants:
        item.name = names.fresh(item.meta["hint"])
        assert item.const_value is not None
        item.const_value.name = item.name
        graph.register_initializer(item)
    first = next(iter(graph))
    graph.insert_before(first, op.nodes)
    value.replace_all_uses_with(made)
    name = value.name or ""
    del graph.initializers[name]
    made.type, made.shape = value.type, value.shape
