"""What a replacement is computed in when the spelled form casts between float types on the way."""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir

from ...compiler.core.build import Build
from ...compiler.core.reasons import Skip, skip
from ...compiler.core.rule import Match
from .polynomial import BFLOAT16, DOUBLE, FLOAT, FLOAT16

BITS = {FLOAT16: 16, BFLOAT16: 16, FLOAT: 32, DOUBLE: 64}


def in_widest(op: Build, m: Match, x: ir.Value, make: Callable[..., object], takes: tuple[ir.DataType, ...] = tuple(BITS)) -> ir.Value | Skip:
    """``make(x)`` in the widest float type that the match computes in, cast to the type of the match's output.

    Refused when the match rounds to fewer bits than its output has on the way, and when ``make`` does not take the type.
    """
    y = m.outputs[0]
    seen = [value.dtype for node in m.nodes for value in (*node.inputs, *node.outputs) if value is not None and value.dtype in BITS]
    if x.dtype not in BITS or y.dtype not in BITS or any(BITS[kind] < BITS[y.dtype] for kind in seen):
        return skip("'%s' (%s) is rounded to fewer bits on its way to '%s' (%s)", x.name, x.dtype, y.name, y.dtype)
    widest = max(seen, key=lambda kind: BITS[kind])
    if widest not in takes:
        return skip("it is computed in %s, which the operator does not take", widest)
    source = x if x.dtype == widest else op.Cast(x, to=widest.value)
    made = make(source)
    return made if y.dtype == widest else op.Cast(made, to=y.dtype.value)  # type: ignore[return-value]
