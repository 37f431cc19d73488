"""Patterns: graphs drawn as Python functions, and matching them against nodes.

A pattern function receives a drawing pen ``op`` and one parameter per value it leaves open::

    def erf_gelu(op, x):
        return op.Mul(op.Mul(x, op.Add(op.Erf(op.Div(x, sqrt(2))), 1.0)), 0.5)

A parameter annotated ``Const`` must be a constant; one with the default ``None`` may be missing (an optional input). A number
matches a constant all of whose elements are that number. Attributes that are not drawn must have the operator's default;
``ANY`` lets one be anything, ``_attrs=ANY`` all of them. ``_name`` makes the matched node readable as ``m.node(name)``,
``_outputs=n`` draws an operator with several outputs, ``_domain`` one of another domain, ``op.any("Conv", "ConvTranspose")(...)`` a choice.
A pattern may return a tuple: its values are all replaced.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import onnx_ir as ir

from .dims import broadcasts_into
from .graph import attribute, constant, is_op, node_label, schema_default

COMMUTATIVE = frozenset({"Add", "Mul", "And", "Or", "Xor", "Equal", "Max", "Min", "Sum", "Mean", "BitwiseAnd", "BitwiseOr", "BitwiseXor"})
MAX_LITERAL_ELEMENTS = 4096


class _Any:
    def __repr__(self) -> str:
        return "ANY"


ANY = _Any()
"""Any attribute value will do."""


class Const(Protocol):
    """Annotation: the parameter must be a constant that no caller can override."""


@dataclass(frozen=True)
class Var:
    """A value left open."""

    name: str
    const: bool = False
    optional: bool = False


@dataclass(frozen=True)
class Literal:
    """A constant all of whose elements are ``value``."""

    value: float | int | bool


@dataclass(frozen=True, eq=False)
class NodePattern:
    """An operator drawn in a pattern."""

    types: tuple[str, ...]
    domain: str
    inputs: tuple[Operand, ...]
    attributes: dict[str, object]
    any_attributes: bool
    outputs: int
    name: str | None


@dataclass(frozen=True, eq=False)
class ValuePattern:
    """Output ``index`` of a drawn operator."""

    node: NodePattern
    index: int = 0


Operand = Var | Literal | ValuePattern | None


class Pen:
    """Draws operators; what `NodePattern` s come from."""

    def any(self, *types: str) -> Callable[..., object]:
        """One of several operators."""

        def draw(
            *inputs: object, _domain: str = "", _outputs: int = 1, _name: str | None = None, _attrs: object = None, **attributes: object
        ) -> object:
            operands = tuple(_operand(item) for item in inputs)
            node = NodePattern(types, _domain, operands, attributes, _attrs is ANY, _outputs, _name)
            values = tuple(ValuePattern(node, index) for index in range(_outputs))
            return values[0] if _outputs == 1 else values

        return draw

    def __getattr__(self, op_type: str) -> Callable[..., object]:
        return self.any(op_type)


def _operand(item: object) -> Operand:
    if item is None or isinstance(item, (Var, Literal, ValuePattern)):
        return item
    if isinstance(item, (bool, int, float, np.number)):
        return Literal(item.item() if isinstance(item, np.number) else item)
    raise TypeError(f"a pattern cannot hold {item!r}: draw an operator, a parameter or a number")


@dataclass(frozen=True)
class Pattern:
    """A traced pattern function: ``outputs`` are what a match replaces, the first one's operator anchors it."""

    outputs: tuple[ValuePattern, ...]
    depth: int
    size: int

    @property
    def root(self) -> NodePattern:
        """The operator where matching starts."""
        return self.outputs[0].node


def trace(function: Callable[..., object]) -> Pattern:
    """Draw a pattern function once."""
    parameters = list(inspect.signature(function).parameters.values())[1:]
    drawn = function(Pen(), *(_variable(parameter) for parameter in parameters))
    outputs = drawn if isinstance(drawn, tuple) else (drawn,)
    if not all(isinstance(value, ValuePattern) for value in outputs):
        raise TypeError(f"the pattern {function.__name__} must return operators it drew")
    nodes: dict[NodePattern, None] = {}
    depth = max(_walk(value, nodes) for value in outputs)
    return Pattern(outputs, depth, len(nodes))


def _variable(parameter: inspect.Parameter) -> Var:
    note = parameter.annotation
    const = note is Const or (isinstance(note, str) and note.split("|")[0].strip() == "Const")
    return Var(parameter.name, const, optional=parameter.default is None)


def _walk(operand: Operand, seen: dict[NodePattern, None]) -> int:
    if not isinstance(operand, ValuePattern):
        return 0
    seen[operand.node] = None
    return 1 + max((_walk(item, seen) for item in operand.node.inputs), default=0)


@dataclass(frozen=True)
class Binding:
    """What matching has found so far; extended by copying, so that a wrong turn costs nothing."""

    values: dict[str, ir.Value | None] = field(default_factory=dict)
    nodes: dict[NodePattern, ir.Node] = field(default_factory=dict)

    def with_value(self, name: str, value: ir.Value | None) -> Binding:
        """This binding, with a parameter bound."""
        return Binding({**self.values, name: value}, self.nodes)

    def with_node(self, pattern: NodePattern, node: ir.Node) -> Binding:
        """This binding, with a drawn operator bound."""
        return Binding(self.values, {**self.nodes, pattern: node})


class Probe:
    """Remembers how deep the best attempt got and what stopped it; costs nothing unless somebody asked."""

    def __init__(self) -> None:
        self.depth = -1
        self.template = ""
        self.values: tuple[object, ...] = ()

    def stop(self, depth: int, template: str, *values: object) -> None:
        """An attempt ended after ``depth`` operators."""
        if depth > self.depth:
            self.depth, self.template, self.values = depth, template, values

    @property
    def reason(self) -> str:
        """What stopped the best attempt."""
        return self.template % tuple(node_label(item) if isinstance(item, ir.Node) else item for item in self.values)


def find(pattern: Pattern, node: ir.Node, probe: Probe | None = None) -> Iterator[Binding]:
    """Every way the pattern matches with its first output's operator at ``node``."""
    first = pattern.outputs[0]
    for binding in _match_node(first.node, node, Binding(), probe):
        for whole in _match_other_roots(pattern.outputs[1:], binding, probe):
            if all(value.index < len(whole.nodes[value.node].outputs) for value in pattern.outputs):
                yield whole


def _match_other_roots(outputs: tuple[ValuePattern, ...], binding: Binding, probe: Probe | None) -> Iterator[Binding]:
    if not outputs:
        yield binding
        return
    wanted = outputs[0].node
    if wanted in binding.nodes:
        yield from _match_other_roots(outputs[1:], binding, probe)
        return
    taken = set(binding.nodes.values())
    for node in _candidates(wanted, binding):
        if node in taken:
            continue
        for extended in _match_node(wanted, node, binding, probe):
            yield from _match_other_roots(outputs[1:], extended, probe)


def _candidates(wanted: NodePattern, binding: Binding) -> list[ir.Node]:
    """Nodes downstream of what is bound where another root of the pattern could be, found by following the drawing upwards."""
    found: dict[ir.Node, None] = {}
    for operand in wanted.inputs:
        for value in _bound_values(operand, binding):
            found.update(dict.fromkeys(node for node, _ in value.uses() if is_op(node, *wanted.types, domain=wanted.domain)))
        if isinstance(operand, ValuePattern) and operand.node not in binding.nodes:
            for inner in _candidates(operand.node, binding):
                for value in inner.outputs:
                    found.update(dict.fromkeys(node for node, _ in value.uses() if is_op(node, *wanted.types, domain=wanted.domain)))
    return list(found)


def _bound_values(operand: Operand, binding: Binding) -> list[ir.Value]:
    if isinstance(operand, Var):
        value = binding.values.get(operand.name)
        return [value] if value is not None else []
    if isinstance(operand, ValuePattern) and operand.node in binding.nodes:
        return [binding.nodes[operand.node].outputs[operand.index]]
    return []


def _match_node(pattern: NodePattern, node: ir.Node, binding: Binding, probe: Probe | None) -> Iterator[Binding]:
    if pattern in binding.nodes:
        if binding.nodes[pattern] is node:
            yield binding
        return
    if not is_op(node, *pattern.types, domain=pattern.domain):
        _stop(probe, binding, "%s is not %s", node, "/".join(pattern.types))
        return
    if not _attributes_fit(pattern, node, binding, probe):
        return
    if len(node.inputs) > len(pattern.inputs) and any(value is not None for value in node.inputs[len(pattern.inputs) :]):
        _stop(probe, binding, "%s has more inputs than the pattern draws", node)
        return
    if len(node.outputs) > pattern.outputs and any(value.name and (value.uses() or value.is_graph_output()) for value in node.outputs[pattern.outputs :]):
        _stop(probe, binding, "%s has more outputs in use than the pattern draws", node)
        return
    bound = binding.with_node(pattern, node)
    values = tuple(node.inputs) + (None,) * (len(pattern.inputs) - len(node.inputs))
    values = values[: len(pattern.inputs)]
    yield from _match_inputs(pattern.inputs, values, values, bound, probe)
    if len(values) == 2 and node.op_type in COMMUTATIVE and pattern.inputs[0] != pattern.inputs[1]:
        yield from _match_inputs(pattern.inputs, values[::-1], values, bound, probe)


def _match_inputs(
    operands: tuple[Operand, ...], values: tuple[ir.Value | None, ...], siblings: tuple[ir.Value | None, ...], binding: Binding, probe: Probe | None
) -> Iterator[Binding]:
    if not operands:
        yield binding
        return
    for extended in _match_operand(operands[0], values[0], siblings, binding, probe):
        yield from _match_inputs(operands[1:], values[1:], siblings, extended, probe)


def _match_operand(
    operand: Operand, value: ir.Value | None, siblings: tuple[ir.Value | None, ...], binding: Binding, probe: Probe | None
) -> Iterator[Binding]:
    if operand is None:
        if value is None:
            yield binding
    elif isinstance(operand, Var):
        yield from _match_var(operand, value, binding, probe)
    elif value is None:
        _stop(probe, binding, "an input that the pattern draws is missing")
    elif isinstance(operand, Literal):
        if _is_literal(value, operand.value) and _keeps_shape(value, siblings):
            yield binding
        else:
            _stop(probe, binding, "'%s' is not the constant %s", value.name, operand.value)
    else:
        node = value.producer()
        if node is None:
            _stop(probe, binding, "'%s' is an input or initialiser, not made by %s", value.name, "/".join(operand.node.types))
        elif value.index() != operand.index:
            _stop(probe, binding, "'%s' is not output %s of %s", value.name, operand.index, node)
        else:
            yield from _match_node(operand.node, node, binding, probe)


def _match_var(var: Var, value: ir.Value | None, binding: Binding, probe: Probe | None) -> Iterator[Binding]:
    if var.name in binding.values:
        if binding.values[var.name] is value:
            yield binding
        else:
            _stop(probe, binding, "'%s' stands for two different values", var.name)
    elif value is None and not var.optional:
        _stop(probe, binding, "the input '%s' is missing", var.name)
    elif var.const and value is not None and constant(value) is None:
        _stop(probe, binding, "'%s' (%s) is not a constant", value.name, var.name)
    else:
        yield binding.with_value(var.name, value)


def _stop(probe: Probe | None, binding: Binding, template: str, *values: object) -> None:
    if probe is not None:
        probe.stop(len(binding.nodes), template, *values)


def _attributes_fit(pattern: NodePattern, node: ir.Node, binding: Binding, probe: Probe | None) -> bool:
    for name, wanted in pattern.attributes.items():
        if wanted is ANY:
            continue
        actual = attribute(node, name)
        if not _equal(actual, wanted):
            _stop(probe, binding, "%s has %s=%s, not %s", node, name, actual, wanted)
            return False
    if pattern.any_attributes:
        return True
    for name, attr in node.attributes.items():
        if name not in pattern.attributes and not _is_default(node, name, attr):
            _stop(probe, binding, "%s has %s=%s, which the pattern does not draw", node, name, attr.value)
            return False
    return True


def _is_default(node: ir.Node, name: str, attr: ir.Attr) -> bool:
    if attr.is_ref():
        return False
    return _equal(attr.value, schema_default(node, name))


def _equal(actual: object, wanted: object) -> bool:
    if isinstance(wanted, float) and isinstance(actual, (int, float)):
        return bool(np.float32(actual) == np.float32(wanted))
    if isinstance(wanted, (list, tuple)) and isinstance(actual, (list, tuple)):
        return list(actual) == list(wanted)
    return type(actual) is type(wanted) and actual == wanted


def _is_literal(value: ir.Value, wanted: float | int | bool) -> bool:
    tensor = constant(value)
    if tensor is None or tensor.size == 0 or tensor.size > MAX_LITERAL_ELEMENTS or tensor.dtype == ir.DataType.STRING:
        return False
    content = tensor.numpy().reshape(-1)
    if content.dtype == np.bool_ or isinstance(wanted, bool):
        return content.dtype == np.bool_ and bool((content == wanted).all())
    if np.issubdtype(content.dtype, np.integer):
        return bool((content == wanted).all())
    return bool((np.abs(content.astype(np.float64) - wanted) <= _rounding(tensor.dtype) * abs(wanted)).all())


def _keeps_shape(value: ir.Value, siblings: tuple[ir.Value | None, ...]) -> bool:
    """Whether leaving the constant out cannot change a broadcast result: it is a scalar, or proven to fit inside a sibling."""
    small = value.shape if value.shape is not None else ir.Shape(constant(value).shape.numpy())  # type: ignore[union-attr]
    if len(small) == 0:
        return True
    return any(other is not value and other is not None and broadcasts_into(small, other.shape) for other in siblings)


def _rounding(dtype: ir.DataType) -> float:
    """How far a rounded literal may lie from the real number, relatively: two units in the last place, at most what five digits leave."""
    widths = {ir.DataType.DOUBLE: 1e-6, ir.DataType.FLOAT: 1e-6, ir.DataType.FLOAT16: 2e-3, ir.DataType.BFLOAT16: 1.6e-2}
    return widths.get(dtype, 0.0)
