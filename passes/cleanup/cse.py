"""What is computed twice is computed once."""

from __future__ import annotations

import functools
import struct
from collections.abc import Hashable
from dataclasses import dataclass
from typing import ClassVar

import onnx
import onnx_ir as ir

from ...compiler.core.drift import Drift
from ...compiler.core.graph import constant, erase, opset, replace, scalar, subgraphs_of
from ...compiler.core.names import Names
from ...compiler.core.passes import Context, Pass
from ...compiler.core.target import STANDARD_DOMAINS
from .scopes import ambiguous_names

RULE = "merge-equal-nodes"
SMALL = 1024
"""Constants of up to so many bytes are told by their content; larger ones by who they are (`deduplicate-initialisers` merges those)."""
DOMAINS = (*STANDARD_DOMAINS, "ai.onnx.ml", "com.microsoft")
"""An operator of another domain may be anything."""
RANDOM = frozenset(
    {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli", "BiasDropout", "BitmaskDropout", "Sampling"}
    | {"BitmaskBiasDropout"}
)
COMMUTATIVE = frozenset({"Add", "Mul", "Sum", "Mean", "And", "Or", "Xor", "Equal", "BitwiseAnd", "BitwiseOr", "BitwiseXor"})
COMMUTATIVE_ON_INTEGERS = frozenset({"Max", "Min"})
"""Among floats, which zero of 0.0 and -0.0 comes out may depend on their order."""


@dataclass(frozen=True)
class EliminateCommonSubexpressions(Pass):
    """Lets nodes of the same operator, attributes and inputs share the first one's outputs, commuted operands and equal constants included.

    A node in a subgraph uses the equal one outside. Random operators, nodes with subgraphs and unknown domains are left alone.
    """

    name: ClassVar[str] = "eliminate-common-subexpressions"
    drift: ClassVar[Drift] = Drift.EXACT

    def run(self, model: ir.Model, context: Context) -> int:
        """Change ``model`` in place; returns how many nodes went."""
        return _Numbering(model, context).merge_in(model.graph)


class _Numbering:
    """One walk over a model, in the order of execution; equal things get equal keys."""

    def __init__(self, model: ir.Model, context: Context) -> None:
        self.context = context
        self.names = Names(model)
        self.versions = {domain: opset(model, domain) for domain in DOMAINS}
        self.local = model.functions.keys()
        self.ambiguous = ambiguous_names(model)
        self.known: dict[Hashable, ir.Node] = {}
        self.numbers: dict[Hashable, int] = {}

    def merge_in(self, graph: ir.Graph) -> int:
        """Merge the nodes of a graph and of those nested in it; what a subgraph computes is forgotten at its end."""
        merged = 0
        added: list[Hashable] = []
        for node in graph:
            key = self._key(node)
            twin = self.known.get(key) if key is not None else None
            if twin is not None:
                merged += self._merge(node, twin)
            elif key is not None:
                self.known[key] = node
                added.append(key)
            merged += sum(self.merge_in(inner) for inner in subgraphs_of(node))
        for key in added:
            del self.known[key]
        return merged

    def _merge(self, node: ir.Node, twin: ir.Node) -> bool:
        pairs = [(old, new) for old, new in zip(node.outputs, twin.outputs, strict=True) if old.name]
        same_graph = twin.graph is node.graph
        if not same_graph and any(new.name in self.ambiguous for _, new in pairs):
            return False
        needs_copy = any(old.is_graph_output() and (not same_graph or new.is_graph_output()) for old, new in pairs)
        if needs_copy and node.op_type == "Identity":
            return False
        if not self.context.ledger.permit(RULE, next((old.name for old, _ in pairs if old.name), "")):
            return False
        for old, new in pairs:
            if new.shape is None:
                new.shape = old.shape
            replace(old, new, self.names)
        erase(node)
        return True

    def _key(self, node: ir.Node) -> Hashable | None:
        """Equal for nodes that compute the same; None for one that must be left alone."""
        domain = "" if node.domain in STANDARD_DOMAINS else node.domain
        if domain not in self.versions or node.op_identifier() in self.local or not node.outputs or _is_random(node):
            return None
        defaults = _defaults(node.op_type, domain, self.versions[domain])
        attributes = []
        for name, attr in sorted(node.attributes.items()):
            content = None if attr.is_ref() else _attribute(attr)
            if content is None:
                return None
            if content != defaults.get(name):
                attributes.append((name, content))
        inputs = [self._number(value) for value in node.inputs]
        while inputs and inputs[-1] == 0:
            inputs.pop()
        if len(inputs) == 2 and _commutes(node):
            inputs.sort()
        asked = tuple(bool(value.name) for value in node.outputs)
        return (domain, node.op_type, tuple(attributes), tuple(inputs), asked)

    def _number(self, value: ir.Value | None) -> int:
        """The same for values that are known to be equal; 0 for a missing one."""
        if value is None:
            return 0
        return self.numbers.setdefault(_identity(value), len(self.numbers) + 1)


def _identity(value: ir.Value) -> Hashable:
    tensor = constant(value)
    if tensor is None or tensor.dtype == ir.DataType.STRING or tensor.nbytes > SMALL:
        return value
    return (tensor.dtype, tuple(tensor.shape), tensor.tobytes())


def _is_random(node: ir.Node) -> bool:
    """Whether a second run gives something else; Dropout does only when told to train."""
    if node.op_type in RANDOM:
        return True
    training = node.inputs[2] if node.op_type == "Dropout" and len(node.inputs) > 2 else None
    return training is not None and scalar(training) is not False


def _commutes(node: ir.Node) -> bool:
    if node.domain not in STANDARD_DOMAINS:
        return False
    if node.op_type in COMMUTATIVE:
        return True
    dtype = node.inputs[0].dtype if node.inputs[0] is not None else None
    return node.op_type in COMMUTATIVE_ON_INTEGERS and dtype is not None and dtype.is_integer()


@functools.lru_cache(maxsize=1024)
def _defaults(op_type: str, domain: str, version: int) -> dict[str, Hashable]:
    """The attributes that an operator has without being told, by name."""
    try:
        schema = onnx.defs.get_schema(op_type, version, domain)
    except onnx.defs.SchemaError:
        return {}
    declared = {name: item.default_value for name, item in schema.attributes.items() if item.default_value.name}
    found = {name: _attribute(ir.serde.deserialize_attribute(proto)) for name, proto in declared.items()}
    return {name: content for name, content in found.items() if content is not None}


def _attribute(attr: ir.Attr) -> Hashable | None:
    """The content of an attribute, told apart by bits; None for what has no simple content."""
    kinds = ir.AttributeType
    if attr.type == kinds.FLOAT:
        return attr.type, struct.pack("<f", attr.as_float())
    if attr.type == kinds.FLOATS:
        return attr.type, b"".join(struct.pack("<f", item) for item in attr.as_floats())
    if attr.type in (kinds.INT, kinds.STRING):
        return attr.type, attr.value
    if attr.type in (kinds.INTS, kinds.STRINGS):
        return attr.type, tuple(attr.value)
    if attr.type == kinds.TENSOR:
        tensor = attr.as_tensor()
        if tensor.dtype == ir.DataType.STRING:
            return attr.type, tuple(tensor.shape), tuple(tensor.numpy().reshape(-1).tolist())
        return attr.type, tensor.dtype, tuple(tensor.shape), tensor.tobytes() if tensor.nbytes <= SMALL else id(tensor)
    return None
