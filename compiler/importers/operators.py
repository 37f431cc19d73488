"""Checks on the nodes of a model file: is there such an operator, and does the node fit it."""

from __future__ import annotations

import difflib
import functools
from dataclasses import dataclass

import onnx
from onnx import AttributeProto, FunctionProto, ModelProto, NodeProto

from ..core.errors import ModelError
from .structure import Body, bodies, function_key, label, standard

_TYPES = AttributeProto.AttributeType
_FIELDS = {
    _TYPES.FLOAT: "f", _TYPES.INT: "i", _TYPES.STRING: "s", _TYPES.TENSOR: "t", _TYPES.GRAPH: "g", _TYPES.SPARSE_TENSOR: "sparse_tensor",
    _TYPES.TYPE_PROTO: "tp", _TYPES.FLOATS: "floats", _TYPES.INTS: "ints", _TYPES.STRINGS: "strings", _TYPES.TENSORS: "tensors",
    _TYPES.GRAPHS: "graphs", _TYPES.SPARSE_TENSORS: "sparse_tensors", _TYPES.TYPE_PROTOS: "type_protos",
}  # fmt: skip
_MESSAGES = {_TYPES.TENSOR, _TYPES.GRAPH, _TYPES.SPARSE_TENSOR, _TYPES.TYPE_PROTO}
_REPEATED = {_TYPES.FLOATS, _TYPES.INTS, _TYPES.STRINGS, _TYPES.TENSORS, _TYPES.GRAPHS, _TYPES.SPARSE_TENSORS, _TYPES.TYPE_PROTOS}
_REQUIRED_INPUT = onnx.defs.OpSchema.FormalParameterOption.Single


@dataclass(frozen=True)
class Signature:
    """What an operator takes. ``attributes`` maps a name to (type, whether it must be there); None: not checked here."""

    inputs: tuple[int, int]
    outputs: tuple[int, int]
    required: tuple[bool, ...]
    attributes: dict[str, tuple[int, bool]] | None


def check_operators(model: ModelProto) -> None:
    """Raise ModelError at the first node of an operator that nobody knows, or that has other inputs, outputs or attributes than it."""
    functions = {function_key(function.domain, function.name, function.overload): _function_signature(function) for function in model.functions}
    imports = _imports_of(model)
    _Checker(functions, imports, False).check(model.graph)
    for function in model.functions:
        _Checker(functions, imports | _imports_of(function), True).check(function)


def _imports_of(owner: ModelProto | FunctionProto) -> dict[str, int]:
    return {standard(entry.domain): entry.version for entry in owner.opset_import}


@dataclass(frozen=True)
class _Checker:
    functions: dict[tuple[str, str, str], Signature]
    imports: dict[str, int]
    in_function: bool

    def check(self, root: Body) -> None:
        for body in bodies(root):
            for node in body.node:
                self._check_node(node)

    def _check_node(self, node: NodeProto) -> None:
        signature = self.functions.get(function_key(node.domain, node.op_type, node.overload))
        if signature is None:
            signature = self._signature(node)
        _check_count(node, "inputs", len(node.input), signature.inputs)
        _check_count(node, "outputs", len(node.output), signature.outputs)
        for index, required in enumerate(signature.required[: len(node.input)]):
            if required and not node.input[index]:
                raise ModelError(f"input {index} of the node {label(node)} is left out, but {node.op_type} needs it")
        self._check_attributes(node, signature)
        if node.op_type == "Split" and not standard(node.domain):
            _check_split(node)

    def _signature(self, node: NodeProto) -> Signature:
        domain = standard(node.domain)
        version = self.imports.get(domain)
        if version is None:
            raise ModelError(_unknown_domain(node, domain))
        signature = standard_signature(node.op_type, version, domain)
        if signature is not None:
            return signature
        operator = runtime_operators().get((domain, node.op_type))
        if operator is None or operator.first > version or _is_withdrawn(node.op_type, version, domain):
            raise ModelError(_unknown_operator(node, domain, version))
        return Signature((0, operator.most_inputs), (0, operator.most_outputs), (), None)

    def _check_attributes(self, node: NodeProto, signature: Signature) -> None:
        seen = set()
        for attribute in node.attribute:
            if not attribute.name or attribute.name in seen:
                raise ModelError(f"the node {label(node)} has {'two attributes' if attribute.name else 'an attribute'} called '{attribute.name}'")
            seen.add(attribute.name)
            self._check_content(node, attribute)
            if signature.attributes is None or attribute.name.startswith("__"):
                continue
            if attribute.name not in signature.attributes:
                raise ModelError(f"the node {label(node)} has the attribute '{attribute.name}', which {node.op_type} does not take")
            wanted = signature.attributes[attribute.name][0]
            if attribute.type != wanted:
                raise ModelError(f"the attribute '{attribute.name}' of {label(node)} is of type {_type_name(attribute.type)}, not {_type_name(wanted)}")
            if not _is_text(attribute):
                raise ModelError(f"the attribute '{attribute.name}' of {label(node)} is not readable text: the file is broken")
        for name, (_, required) in (signature.attributes or {}).items():
            if required and name not in seen:
                raise ModelError(f"the node {label(node)} lacks the attribute '{name}', which {node.op_type} needs")

    def _check_content(self, node: NodeProto, attribute: AttributeProto) -> None:
        """What is stored is what the type says."""
        field = _FIELDS.get(attribute.type)
        if field is None:
            raise ModelError(f"the attribute '{attribute.name}' of {label(node)} has the type number {attribute.type}, which ONNX does not have")
        if attribute.ref_attr_name:
            if not self.in_function:
                raise ModelError(f"the attribute '{attribute.name}' of {label(node)} refers to '{attribute.ref_attr_name}', but is in no function")
            return
        for kind, other in _FIELDS.items():
            filled = len(getattr(attribute, other)) if kind in _REPEATED else attribute.HasField(other)
            if filled and other != field:
                raise ModelError(f"the attribute '{attribute.name}' of {label(node)} is of type {_type_name(attribute.type)}, but holds something else")
        if attribute.type in _MESSAGES and not attribute.HasField(field):
            raise ModelError(f"the attribute '{attribute.name}' of {label(node)} is empty")


def _is_text(attribute: AttributeProto) -> bool:
    try:
        for text in (attribute.s, *attribute.strings):
            text.decode()
    except UnicodeDecodeError:
        return False
    return True


def _check_split(node: NodeProto) -> None:
    """Shape inference makes as many outputs as the attribute says, however many those are."""
    said = next((attribute.i for attribute in node.attribute if attribute.name == "num_outputs" and not attribute.ref_attr_name), len(node.output))
    if said != len(node.output):
        raise ModelError(f"the node {label(node)} says it has {said} outputs, but has {len(node.output)}")


def _check_count(node: NodeProto, what: str, count: int, limits: tuple[int, int]) -> None:
    least, most = limits
    if least <= count <= most:
        return
    wanted = str(least) if least == most else f"at least {least}" if most > 1 << 20 else f"{least} to {most}"
    raise ModelError(f"the node {label(node)} has {count} {what}; {node.op_type} has {wanted}")


def _type_name(number: int) -> str:
    return AttributeProto.AttributeType.Name(number) if number in AttributeProto.AttributeType.values() else str(number)


def _function_signature(function: FunctionProto) -> Signature:
    return Signature((0, len(function.input)), (0, len(function.output)), (), None)


@functools.cache
def standard_signature(op_type: str, version: int, domain: str) -> Signature | None:
    """What an operator that ONNX defines takes; None when it does not define it in this version, or has withdrawn it."""
    try:
        schema = onnx.defs.get_schema(op_type, version, domain)
    except onnx.defs.SchemaError:
        return None
    if schema.deprecated:
        return None
    attributes = {name: (int(attribute.type.value), attribute.required) for name, attribute in schema.attributes.items()}  # type: ignore[attr-defined]
    required = tuple(formal.option == _REQUIRED_INPUT for formal in schema.inputs)
    return Signature((schema.min_input, schema.max_input), (schema.min_output, schema.max_output), required, attributes)


def _is_withdrawn(op_type: str, version: int, domain: str) -> bool:
    try:
        return bool(onnx.defs.get_schema(op_type, version, domain).deprecated)
    except onnx.defs.SchemaError:
        return False


@dataclass(frozen=True)
class RuntimeOperator:
    """An operator as the installed ONNX Runtime defines it. ``first`` and ``newest`` are its versions there."""

    most_inputs: int
    most_outputs: int
    first: int
    newest: int


@functools.cache
def runtime_operators() -> dict[tuple[str, str], RuntimeOperator]:
    """Every operator that the installed ONNX Runtime defines, by domain and name."""
    from onnxruntime.capi.onnxruntime_pybind11_state import get_all_operator_schema

    found: dict[tuple[str, str], RuntimeOperator] = {}
    for schema in get_all_operator_schema():
        key, version = (standard(schema.domain), schema.name), schema.since_version
        known = found.get(key, RuntimeOperator(0, 0, version, version))
        most_inputs, most_outputs = max(schema.max_input, known.most_inputs), max(schema.max_output, known.most_outputs)
        found[key] = RuntimeOperator(most_inputs, most_outputs, min(version, known.first), max(version, known.newest))
    return found


def newest_version(domain: str) -> int | None:
    """The newest version of a domain that both ONNX and ONNX Runtime have; None when neither knows the domain."""
    in_runtime = [operator.newest for (other, _), operator in runtime_operators().items() if other == domain]
    in_onnx = onnx.defs.C.schema_version_map().get(domain)
    if in_onnx is None:
        return 1 if in_runtime else None
    return min(in_onnx[1], max(in_runtime, default=in_onnx[1]))


def _unknown_domain(node: NodeProto, domain: str) -> str:
    if newest_version(domain) is not None:
        return f"the node {label(node)} is of the domain '{domain or 'ai.onnx'}', which the model does not import"
    return (
        f"the node {label(node)} is of the domain '{domain}', which the model does not import, no function of it defines, and neither ONNX nor "
        "ONNX Runtime knows: custom operators cannot be compiled"
    )


def _unknown_operator(node: NodeProto, domain: str, version: int) -> str:
    shown = domain or "ai.onnx"
    history = [schema for schema in onnx.defs.get_all_schemas_with_history() if schema.name == node.op_type and standard(schema.domain) == domain]
    names = {schema.name for schema in onnx.defs.get_all_schemas() if standard(schema.domain) == domain}
    names |= {name for known, name in runtime_operators() if known == domain}
    if not names:
        return (
            f"the node {label(node)} is of the domain '{shown}', which neither ONNX nor ONNX Runtime knows and no function of the model defines: "
            "custom operators cannot be compiled"
        )
    if history:
        first = min(schema.since_version for schema in history)
        when = f"came with version {first}" if first > version else "was withdrawn before"
        return f"there is no operator {node.op_type} in version {version} of {shown} (node {label(node)}): it {when}"
    close = difflib.get_close_matches(node.op_type, sorted(names), 1)
    hint = f": is {close[0]} meant?" if close else ""
    return f"there is no operator '{node.op_type}' in {shown} (node {label(node)}){hint}"
