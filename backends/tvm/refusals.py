"""What TVM does not take, told without building anything."""

from __future__ import annotations

import onnx_ir as ir

from ...compiler.core.target import STANDARD_DOMAINS
from .conversions import OWN
from .elements import NUMBERS
from .expanding import all_expansions, key
from .forms import misread


def refusal(node: ir.Node) -> str | None:
    """Why a node cannot be built, by its operator and types alone; None when it may be: a form of the operator can still be refused."""
    from tvm.relax.frontend.onnx import onnx_frontend

    name = key(node)
    known = name in all_expansions() or (node.domain in STANDARD_DOMAINS and (name in OWN or name in onnx_frontend._get_convert_map()))
    if not known and name != "Constant":
        return f"tvm does not take {name}"
    if (wrong := misread(node)) is not None:
        return f"tvm does not take this {name}: {wrong}"
    for value in (*node.inputs, *node.outputs):
        if value is None or value.type is None:
            continue
        if not isinstance(value.type, ir.TensorType):
            return f"tvm takes tensors only, and {name} has a {type(value.type).__name__.removesuffix('Type').lower()}"
        if value.dtype is not None and value.dtype.name not in NUMBERS:
            return f"tvm does not compute {name} in {value.dtype.name.lower()}"
    return None
