"""Clip's bounds."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from .step import Pen, attr, given, raises, set_inputs

HALVES = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)
LARGEST = float(np.finfo(np.float32).max)


@raises("Clip", 11, typed=True)
def bounds_to_inputs(node: ir.Node, op: Pen) -> None:
    """``min`` and ``max`` became inputs of the data's dtype.

    As attributes they defaulted to the largest float32, which bounds no half and does bound a double; as inputs to the dtype's own range.
    """
    data = node.inputs[0]
    if data is None:
        return
    bounds: list[ir.Value | None] = []
    for name, default in (("min", -LARGEST), ("max", LARGEST)):
        found = attr(node, name)
        if found is not None:
            bounds.append(op.number(found, data))
        else:
            bounds.append(op.scalar(default, data, name) if data.dtype in (*HALVES, ir.DataType.DOUBLE) else None)
    set_inputs(node, data, *bounds)


@raises("Clip", 12, typed=True)
def open_bounds_of_halves(node: ir.Node, op: Pen) -> None:
    """Clip-11 left infinite halves alone where a bound was missing, Clip-12 brings them to the largest half."""
    data = node.inputs[0]
    if data is None or data.dtype not in HALVES:
        return
    low, high = given(node, 1), given(node, 2)
    set_inputs(node, data, low or op.scalar(-np.inf, data, "min"), high or op.scalar(np.inf, data, "max"))
