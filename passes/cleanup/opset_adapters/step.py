"""What a step is written with: the decorator that names it, the pen it adds nodes with, and how it says no."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from ....compiler.core.build import Build
from ....compiler.core.graph import constant
from ....compiler.core.names import Names


class Refusal(Exception):
    """Why a node has no equal in the newer opset."""


class Pen(Build):
    """Makes the nodes that go right before the node being raised, in their opset-21 form.

    ``replaced`` pairs an output of that node with the value which is to stand for it afterwards; ``fresh`` hands out names.
    """

    def __init__(self, names: Names) -> None:
        super().__init__()
        self.fresh = names.fresh
        self.replaced: list[tuple[ir.Value, ir.Value]] = []

    def like_type_of(self, number: ir.Value, other: ir.Value) -> ir.Value:
        """The float32 constant ``number`` in the dtype of ``other``, whatever that turns out to be."""
        if other.dtype == ir.DataType.FLOAT:
            return number
        return self.node("CastLike", (number, other), {}).outputs[0]

    def vector(self, attr: ir.Attr) -> ir.Value:
        """An attribute of ints as an int64 vector; a function's own parameter stays one."""
        if attr.is_ref():
            parameter = ir.RefAttr("value_ints", attr.ref_attr_name or "", ir.AttributeType.INTS)
            return self.node("Constant", (), {"value_ints": parameter}).outputs[0]
        return self.const([int(item) for item in attr.as_ints()], hint=attr.name)

    def number(self, attr: ir.Attr, other: ir.Value) -> ir.Value:
        """A float attribute as a scalar in the dtype of ``other``; a function's own parameter stays one."""
        if attr.is_ref():
            parameter = ir.RefAttr("value_float", attr.ref_attr_name or "", ir.AttributeType.FLOAT)
            return self.like_type_of(self.node("Constant", (), {"value_float": parameter}).outputs[0], other)
        return self.scalar(attr.as_float(), other, attr.name)

    def scalar(self, number: float, other: ir.Value, hint: str) -> ir.Value:
        """A number in the dtype of ``other``; one that is too large for it becomes infinite."""
        with np.errstate(over="ignore"):
            content = np.array(number, dtype=np.float32)
            if other.dtype is not None:
                return self.const(content.astype(other.dtype.numpy()), hint=hint)
        return self.like_type_of(self.const(content, hint=hint), other)


EXPERIMENTAL = 0
"""In place of a version: the operator was an experiment, and the adapter writes its opset-21 form."""
Adapter = Callable[[ir.Node, Pen], int | None]
"""Rewrites one node in place from the form before a step to the form after it.

Returns the version its new form belongs to when that is later than the step. Raises `Refusal` when the node has no equal.
"""


@dataclass(frozen=True)
class Step:
    """One adapter at one place: the operator it starts from and the version it leads to, or `EXPERIMENTAL`."""

    op: str
    version: int
    adapter: Adapter
    typed: bool


def raises(ops: str, version: int, *, typed: bool = False) -> Callable[[Adapter], Adapter]:
    """Names the operators (separated by blanks) and the version at which their form changed to what the function makes, or `EXPERIMENTAL`.

    ``typed``: the function looks at the dtype or rank of the node's inputs.
    """

    def mark(adapter: Adapter) -> Adapter:
        steps = steps_of(adapter) + tuple(Step(op, version, adapter, typed) for op in ops.split())
        adapter.steps = steps  # type: ignore[attr-defined]
        return adapter

    return mark


def steps_of(item: object) -> tuple[Step, ...]:
    """The steps a function was marked with, if any."""
    return getattr(item, "steps", ())


def drop(node: ir.Node, *names: str) -> None:
    """Take attributes away, if they are there."""
    for name in names:
        node.attributes.pop(name, None)


def attr(node: ir.Node, name: str) -> ir.Attr | None:
    """Take one attribute off the node; None when it is absent."""
    return node.attributes.pop(name, None)


def literal(node: ir.Node, name: str, default: object = None) -> object:
    """Take one attribute off the node as a Python value; a function's parameter in its place is refused."""
    found = node.attributes.pop(name, None)
    if found is None:
        return default
    if found.is_ref():
        raise Refusal(f"its '{name}' is a parameter of the function")
    return found.value


def put(node: ir.Node, **attributes: object) -> None:
    """Set attributes."""
    for name, value in attributes.items():
        node.attributes[name] = ir.convenience.convert_attribute(name, value)  # type: ignore[arg-type]


def set_inputs(node: ir.Node, *values: ir.Value | None) -> None:
    """Give the node these inputs; missing ones at the end are left off."""
    kept: Sequence[ir.Value | None] = values
    while kept and kept[-1] is None:
        kept = kept[:-1]
    node.resize_inputs(len(kept))
    for index, value in enumerate(kept):
        if node.inputs[index] is not value:
            node.replace_input_with(index, value)


def given(node: ir.Node, index: int) -> ir.Value | None:
    """The input at ``index``; None when it is missing."""
    return node.inputs[index] if index < len(node.inputs) else None


def rank(value: ir.Value | None) -> int | None:
    """How many dimensions a value has; None when unknown."""
    return None if value is None or value.shape is None else len(value.shape)


def known_rank(value: ir.Value | None, what: str) -> int:
    """How many dimensions a value has; unknown is refused."""
    found = rank(value)
    if found is None:
        raise Refusal(f"the rank of {what} is unknown")
    return found


def known_dtype(value: ir.Value, what: str) -> ir.DataType:
    """The element type of a value; unknown is refused."""
    if value.dtype is None:
        raise Refusal(f"the dtype of {what} is unknown")
    return value.dtype


def ints_of(value: ir.Value | None, what: str) -> list[int]:
    """The whole numbers in a constant, flattened; anything else is refused."""
    tensor = constant(value)
    if tensor is None:
        raise Refusal(f"{what} is not a constant")
    return [int(item) for item in tensor.numpy().reshape(-1)]


def is_used(value: ir.Value) -> bool:
    """Whether an optional output is asked for: read by a node, or an output of the graph."""
    return value.is_graph_output() or bool(value.uses())
