"""Embeddings that are also the weight of the last product, read through a Transpose."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from ...compiler.core.graph import STORED, all_graphs, array, attribute, constant, is_op, make_constant, producer, sweep
from ...compiler.core.names import Names
from ...compiler.core.sites import FLOATS

__all__ = ["TWICE", "Tied", "integer_weight", "share_codes", "untie"]

MATRIX = 2
TWICE = "its weight is that of '%s' too, which stays as it is: it would be stored twice"


@dataclass
class Tied:
    """Products that read a transposed weight of their own for a while: (product, input, the Transpose's output, the copy)."""

    loans: list[tuple[ir.Node, int, ir.Value, ir.Value]]

    def restore(self) -> None:
        """Let those that are still there read the Transpose again, and forget the copies and the Transposes that nobody reads."""
        for node, index, turned, copy in self.loans:
            if node.graph is not None and node.inputs[index] is copy:
                node.replace_input_with(index, turned)
            if not copy.uses() and copy.graph is not None:
                del copy.graph.initializers[copy.name or ""]
        sweep([made for _, _, turned, _ in self.loans if (made := turned.producer()) is not None and made.graph is not None])

    def keeper(self, table: ir.Value) -> str | None:
        """What the product makes that multiplies by this table as it is, so that the table would be stored twice; None where none does."""
        for node, index, turned, copy in self.loans:
            transpose = turned.producer()
            if transpose is not None and transpose.inputs[0] is table and node.graph is not None and node.inputs[index] is copy:
                return node.outputs[0].name
        return None


def untie(model: ir.Model) -> Tied:
    """Give every product with a transposed constant that something else reads too a copy of its own, so that it is a site; see `Tied.restore`.

    Folding constants leaves these alone, for the weight would be stored twice.
    """
    found: list[tuple[ir.Node, int, ir.Value, ir.Value]] = []
    names = Names(model)
    for graph in all_graphs(model):
        for node in graph:
            if is_op(node, "MatMul", "Gemm") and len(node.inputs) > 1:
                turned = node.inputs[1]
                copy = _copied(turned, graph, names) if turned is not None else None
                if turned is not None and copy is not None:
                    node.replace_input_with(1, copy)
                    found.append((node, 1, turned, copy))
    return Tied(found)


def _copied(turned: ir.Value, graph: ir.Graph, names: Names) -> ir.Value | None:
    transpose = producer(turned, "Transpose")
    tensor = constant(transpose.inputs[0]) if transpose is not None else None
    if transpose is None or tensor is None or len(tensor.shape) != MATRIX or tensor.dtype not in FLOATS or turned.is_graph_output():
        return None
    order = attribute(transpose, "perm")
    stored = array(transpose.inputs[0])
    if stored is None or (isinstance(order, (list, tuple)) and list(order) != [1, 0]):
        return None
    return make_constant(graph, np.ascontiguousarray(stored.T), names.fresh(f"{turned.name}_copy"))


def share_codes(model: ir.Model) -> int:
    """Let embeddings whose codes are, byte for byte, those of a product read them from there; returns how many do.

    The kernels want them in other shapes: a Reshape stands between, which takes no time where the runtime does it once.
    """
    products = _codes_of(model, "MatMulNBits", 1)
    names, shared = Names(model), 0
    for key, readers in _codes_of(model, "GatherBlockQuantized", 0).items():
        for node in readers:
            product = next((other for other in products.get(key, ()) if other.graph is node.graph), None)
            table, codes = node.inputs[0], product.inputs[1] if product is not None else None
            if table is None or codes is None or table.shape is None or codes is table:
                continue
            shape = make_constant(node.graph, np.array(table.shape.numpy(), np.int64), names.fresh(f"{table.name}_shape"))  # type: ignore[arg-type]
            flat = ir.Value(name=names.fresh(f"{table.name}_shared"), type=table.type, shape=table.shape)
            reshape = ir.Node("", "Reshape", [codes, shape], outputs=[flat], name=names.fresh(f"{table.name}_reshape"))
            reshape.metadata_props[STORED] = "shares a weight"
            node.graph.insert_before(node, reshape)  # type: ignore[union-attr]
            node.replace_input_with(0, flat)
            if not table.uses() and table.graph is not None and not table.is_graph_output():
                del table.graph.initializers[table.name or ""]
            shared += 1
    return shared


def integer_weight(graph: ir.Graph | ir.Function | None, codes: np.ndarray) -> ir.Value | None:
    """The constant int8 [K, M] that holds these codes and that a product in integers multiplies by; None where there is none."""
    for node in graph if graph is not None else ():
        if node.op_type in ("MatMulInteger", "MatMulIntegerToFloat") and _holds(node.inputs[1], codes):
            return node.inputs[1]
    return None


def _holds(value: ir.Value | None, codes: np.ndarray) -> bool:
    tensor = constant(value)
    if tensor is None or tensor.dtype is not ir.DataType.INT8 or tuple(tensor.shape.numpy()) != codes.shape:
        return False
    return np.array_equal(tensor.numpy(), codes)


def _codes_of(model: ir.Model, op_type: str, index: int) -> dict[bytes, list[ir.Node]]:
    """The nodes of an operator of com.microsoft by the constant at an input."""
    found: dict[bytes, list[ir.Node]] = {}
    for graph in all_graphs(model):
        for node in graph:
            if is_op(node, op_type, domain="com.microsoft") and (content := array(node.inputs[index])) is not None:
                found.setdefault(hashlib.sha256(content.tobytes()).digest(), []).append(node)
    return found
