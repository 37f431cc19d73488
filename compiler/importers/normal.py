"""What a model file means, written in one way. Everything here changes a model that is our own copy."""

from __future__ import annotations

import re

from onnx import AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto, TensorProto, TensorShapeProto, TypeProto, ValueInfoProto

from ..core.errors import ModelError
from ..core.target import STANDARD_DOMAINS
from .operators import newest_version
from .structure import Body, bodies, check_type, label, standard, subgraphs
from .weights import dense, settle

CANONICAL_OPSET = 21
_CONSTANT_INITIALISERS = 4
"""Before this IR version initialisers had to be listed among the inputs, and still could not be overridden."""
_NO_IMPORTS = 3
_PLAIN_DIM = re.compile(r"[\w.:+*/(), -]{1,200}", re.ASCII)
_SINGLE = {"f": 1, "i": 2, "s": 3, "t": 4, "g": 5, "tp": 13}
_SEVERAL = {"floats": 6, "ints": 7, "strings": 8, "tensors": 9, "graphs": 10, "type_protos": 14}


def type_attributes(model: ModelProto) -> None:
    """Give attributes of the earliest files, which do not say their type, the type of what they hold. Comes before all else: it finds subgraphs."""
    for body in bodies(model.graph, *model.functions):
        for node in body.node:
            for attribute in node.attribute:
                if attribute.type == AttributeProto.UNDEFINED and not attribute.ref_attr_name:
                    attribute.type = _type_of(attribute)


def _type_of(attribute: AttributeProto) -> AttributeProto.AttributeType:
    held = [number for field, number in _SINGLE.items() if attribute.HasField(field)]
    held += [number for field, number in _SEVERAL.items() if len(getattr(attribute, field))]
    return held[0] if len(held) == 1 else AttributeProto.UNDEFINED  # type: ignore[return-value]


def normalise(model: ModelProto) -> list[str]:
    """Bring the model into the form that the rest of the compiler relies on, in place; returns what the user should know.

    Raises ModelError for tensors and types that are broken.
    """
    warnings = _drop_foreign_parts(model)
    _settle_domains(model)
    _settle_imports(model)
    if model.ir_version < _CONSTANT_INITIALISERS:
        for body in bodies(model.graph, *model.functions):
            if isinstance(body, GraphProto):
                _drop_inputs_with_values(body)
        model.ir_version = _CONSTANT_INITIALISERS
    for body in bodies(model.graph, *model.functions):
        _settle_tensors(body)
        _settle_hints(body)
        if isinstance(body, GraphProto):
            _settle_ports(body, is_main=body is model.graph)
    for root in (model.graph, *model.functions):
        _carry_outer_outputs(root, set())
    model.graph.name = model.graph.name or "graph"
    return warnings


def _drop_foreign_parts(model: ModelProto) -> list[str]:
    warnings = []
    if model.training_info:
        warnings.append("the model's training graphs are left out: only inference is compiled")
    if len(model.configuration):
        warnings.append("the model's settings for several devices are left out")
    for field in ("training_info", "configuration"):
        model.ClearField(field)
    _drop_unreadable(model, ("producer_name", "producer_version", "domain", "doc_string"))
    for body in bodies(model.graph, *model.functions):
        _drop_unreadable(body, ("doc_string",))
        for node in body.node:
            node.ClearField("device_configurations")
            _drop_unreadable(node, ("doc_string",))
            for attribute in node.attribute:
                _drop_unreadable(attribute, ("doc_string",))
        if isinstance(body, GraphProto):
            body.ClearField("quantization_annotation")
            for item in (*body.input, *body.output, *body.value_info, *body.initializer):
                _drop_unreadable(item, ("doc_string",))
    return warnings


def _drop_unreadable(message: object, fields: tuple[str, ...]) -> None:
    """Texts for people that are not UTF-8 go: nothing depends on them."""
    for field in fields:
        if not isinstance(getattr(message, field), str):
            message.ClearField(field)  # type: ignore[attr-defined]
    entries = getattr(message, "metadata_props", ())
    if any(not isinstance(text, str) for entry in entries for text in (entry.key, entry.value)):
        message.ClearField("metadata_props")  # type: ignore[attr-defined]


def _settle_domains(model: ModelProto) -> None:
    for function in model.functions:
        function.domain = standard(function.domain)
    for body in bodies(model.graph, *model.functions):
        for node in body.node:
            if node.domain in STANDARD_DOMAINS:
                node.domain = ""


def _settle_imports(model: ModelProto) -> None:
    """Write down the versions that are meant where the file imports none, as ONNX Runtime reads it."""
    imports = {standard(entry.domain): entry.version for entry in model.opset_import}
    used = _used_domains(model.graph)
    if not imports and model.ir_version < _NO_IMPORTS:
        imports[""] = 1
    if imports:
        for domain in used - imports.keys():
            version = newest_version(domain)
            if version is not None:
                imports[domain] = version
        imports.setdefault("", CANONICAL_OPSET)
    _write_imports(model, imports)
    for function in model.functions:
        own = {standard(entry.domain): entry.version for entry in function.opset_import}
        _write_imports(function, own | {domain: imports[domain] for domain in _used_domains(function) if domain in imports and domain not in own})


def _used_domains(root: Body) -> set[str]:
    return {standard(node.domain) for body in bodies(root) for node in body.node}


def _write_imports(owner: ModelProto | FunctionProto, imports: dict[str, int]) -> None:
    owner.ClearField("opset_import")
    for domain, version in imports.items():
        owner.opset_import.add(domain=domain, version=version)


def _drop_inputs_with_values(graph: GraphProto) -> None:
    constant = {tensor.name for tensor in (*graph.initializer, *(sparse.values for sparse in graph.sparse_initializer))}
    kept = [info for info in graph.input if info.name not in constant]
    if len(kept) == len(graph.input):
        return
    copies = [_copy(info) for info in kept]
    graph.ClearField("input")
    graph.input.extend(copies)


def _copy(message: object) -> object:
    fresh = type(message)()
    fresh.CopyFrom(message)  # type: ignore[attr-defined]
    return fresh


def _settle_tensors(body: Body) -> None:
    """Every tensor holds raw bytes or is external; sparse ones are written out."""
    if isinstance(body, GraphProto):
        for sparse in body.sparse_initializer:
            body.initializer.append(dense(sparse, f"the initialiser '{sparse.values.name}'"))
        body.ClearField("sparse_initializer")
        for index in reversed([index for index, tensor in enumerate(body.initializer) if not tensor.name]):
            del body.initializer[index]
        for tensor in body.initializer:
            settle(tensor, f"the initialiser '{tensor.name}'")
    for node in body.node:
        for attribute in node.attribute:
            _settle_attribute(node, attribute)


def _settle_attribute(node: NodeProto, attribute: AttributeProto) -> None:
    what = f"the attribute '{attribute.name}' of {label(node)}"
    if attribute.type == AttributeProto.SPARSE_TENSOR and attribute.name == "sparse_value" and node.op_type == "Constant":
        written = dense(attribute.sparse_tensor, what)
        attribute.Clear()
        attribute.name, attribute.type = "value", AttributeProto.TENSOR
        attribute.t.CopyFrom(written)
    if attribute.type in (AttributeProto.SPARSE_TENSOR, AttributeProto.SPARSE_TENSORS):
        raise ModelError(f"{what} is a sparse tensor, which is not supported")
    if attribute.ref_attr_name:
        return
    for tensor in (attribute.t,) if attribute.type == AttributeProto.TENSOR else attribute.tensors:
        settle(tensor, what)
    for kind in (attribute.tp,) if attribute.type == AttributeProto.TYPE_PROTO else attribute.type_protos:
        settle_type(kind)
        check_type(kind, what)


def _settle_hints(body: Body) -> None:
    """What a file says about values between its nodes is worked out again, but for operators that ONNX does not define."""
    foreign = {name for node in body.node if node.domain for name in node.output if name}
    hints = [_copy(info) for info in body.value_info if isinstance(info.name, str) and info.name in foreign and _is_usable(info)] if foreign else []
    body.ClearField("value_info")
    body.value_info.extend(hints)


def _is_usable(info: ValueInfoProto) -> bool:
    settle_type(info.type)
    try:
        check_type(info.type, info.name)
    except ModelError:
        return False
    return True


def _settle_ports(graph: GraphProto, is_main: bool) -> None:
    """Types of inputs and outputs. An output that is an input or initialiser itself has that one's type."""
    known = {info.name: info.type for info in graph.input}
    for tensor in graph.initializer:
        if tensor.name not in known:
            known[tensor.name] = _type_of_tensor(tensor)
    for info in (*graph.input, *graph.output):
        settle_type(info.type)
    for info in graph.output:
        if info.name in known:
            info.type.CopyFrom(known[info.name])
    for what, ports in (("input", graph.input), ("output", graph.output)):
        for info in ports:
            if info.type.WhichOneof("value") is not None or (is_main and what == "input"):
                check_type(info.type, f"the {what} '{info.name}'")


def _type_of_tensor(tensor: TensorProto) -> TypeProto:
    kind = TypeProto()
    kind.tensor_type.elem_type = tensor.data_type
    kind.tensor_type.shape.SetInParent()
    for dim in tensor.dims:
        kind.tensor_type.shape.dim.add(dim_value=dim)
    return kind


def settle_type(kind: TypeProto) -> None:
    """A negative dimension, and a name that is none, mean that the dimension is unknown."""
    inner: TypeProto | None = kind
    while inner is not None:
        if not isinstance(inner.denotation, str):
            inner.ClearField("denotation")
        which = inner.WhichOneof("value")
        if which in ("sequence_type", "optional_type"):
            inner = getattr(inner, which).elem_type
            continue
        if which == "tensor_type":
            for dim in inner.tensor_type.shape.dim:
                _settle_dim(dim)
        inner = None


def _settle_dim(dim: TensorShapeProto.Dimension) -> None:
    if not isinstance(dim.denotation, str):
        dim.ClearField("denotation")
    if dim.HasField("dim_value") and dim.dim_value < 0:
        dim.ClearField("dim_value")
    if not dim.HasField("dim_param"):
        return
    text = dim.dim_param if isinstance(dim.dim_param, str) else ""
    if not re.search(r"[A-Za-z]", text) or text == "None":
        dim.ClearField("dim_param")
    elif not _PLAIN_DIM.fullmatch(text):
        dim.dim_param = re.sub(r"\W", "_", text, flags=re.ASCII)[:200]


def _carry_outer_outputs(body: Body, outer: set[str]) -> None:
    """A subgraph may not give out a value of the graph around it directly: an Identity carries it."""
    own = {name for node in body.node for name in node.output}
    own.update(body.input if isinstance(body, FunctionProto) else (item.name for item in (*body.input, *body.initializer)))
    visible = outer | own
    if isinstance(body, GraphProto):
        _carry(body, [info for info in body.output if info.name not in own and info.name in outer], set(visible))
    for node in body.node:
        for inner in subgraphs(node):
            _carry_outer_outputs(inner, visible)


def _carry(graph: GraphProto, outputs: list[ValueInfoProto], taken: set[str]) -> None:
    for info in outputs:
        carried, number = f"{info.name}_carried", 1
        while carried in taken:
            carried, number = f"{info.name}_carried_{number}", number + 1
        taken.add(carried)
        graph.node.add(op_type="Identity", input=[info.name], output=[carried])
        info.name = carried
