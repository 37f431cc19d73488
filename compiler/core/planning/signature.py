"""What a block computes, as a text: the same for two blocks that can be one kernel."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

import onnx_ir as ir

from ..graph import constant, opset
from .operators import is_parameter
from .plan import border

SPELLED = 64
"""Constants up to this many elements that say what an operator does are part of what it does."""


def signature(nodes: Sequence[ir.Node]) -> str:
    """Operators, attributes, how they are connected, and types and shapes of all they read; names of values do not count, nor do those of unknown sizes.

    ``nodes`` are of one graph, in topological order, and hold no graphs.
    """
    inputs, outputs = border(nodes)
    inside = set(nodes)
    numbers = {value: f"i{place}" for place, value in enumerate(inputs)}
    parts = [f"{numbers[value]}:{kind_of(value)}{_content(value, inside)}" for value in inputs]
    for node in nodes:
        reads = ",".join("" if value is None else numbers[value] for value in node.inputs)
        for value in node.outputs:
            numbers[value] = f"v{len(numbers)}"
        made = ",".join(kind_of(value) if value.name else "" for value in node.outputs)
        attributes = ",".join(sorted(f"{attr.name}={attribute_text(attr)}" for attr in node.attributes.values()))
        version = opset(node.graph, node.domain) if node.graph is not None else 0
        parts.append(f"{node.domain}::{node.op_type}.{version}({reads})[{attributes}]->{made}")
    parts.append(",".join(numbers[value] for value in outputs))
    return _renumbered("\n".join(parts))


def digest(text: str) -> str:
    """A short name for a signature."""
    return hashlib.sha256(text.encode()).hexdigest()


def embedded(value: ir.Value, readers: set[ir.Node]) -> bool:
    """Whether a constant belongs to what ``readers`` do: one number, or a few that are no data."""
    tensor = constant(value)
    if tensor is None or tensor.dtype == ir.DataType.STRING or tensor.size > SPELLED:
        return False
    return tensor.size == 1 or all(is_parameter(node, index) for node, index in value.uses() if node in readers)


def kind_of(value: ir.Value) -> str:
    """Type and shape of a value."""
    dims = "?" if value.shape is None else "x".join(str(dim) if isinstance(dim, int) else str(dim.value) for dim in value.shape)
    return f"{value.dtype.name if value.dtype is not None else value.type}[{dims}]"


def attribute_text(attr: ir.Attr) -> str:
    """What an attribute holds."""
    if attr.type is ir.AttributeType.TENSOR:
        tensor = attr.as_tensor()
        content = repr(tensor.numpy().tolist()).encode() if tensor.dtype is ir.DataType.STRING else tensor.tobytes()
        return f"{tensor.dtype.name}{list(tensor.shape)}{hashlib.sha256(content).hexdigest()[:16]}"
    return repr(attr.value)


def _content(value: ir.Value, readers: set[ir.Node]) -> str:
    tensor = constant(value)
    if tensor is None:
        return ""
    return f"={tensor.numpy().tolist()!r}" if embedded(value, readers) else "=constant"


def _renumbered(text: str) -> str:
    """Sizes that only the compiler has a name for are called by the order in which they are met."""
    found: dict[str, str] = {}
    return re.sub(r"\?\d+", lambda name: found.setdefault(name.group(), f"?n{len(found)}"), text)
