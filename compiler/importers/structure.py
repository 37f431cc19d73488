"""Checks on a model file before anything reads its graph: nesting, texts, versions, types, functions that call each other."""

from __future__ import annotations

from collections.abc import Iterator

import onnx
from onnx import AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto, TypeProto

from ..core.errors import ModelError
from ..core.target import STANDARD_DOMAINS
from .weights import check_dims, dtype_of

Body = GraphProto | FunctionProto

DEEPEST = 30
"""Graphs within graphs; protobuf itself cannot write more than 32."""
_DEEPEST_TYPE = 8
_MOST_NODES = 10_000_000
_BODY_TEXTS = ("name", "domain", "overload")
_NODE_TEXTS = ("name", "op_type", "domain", "overload")
_ATTRIBUTE_TEXTS = ("name", "ref_attr_name")


def standard(domain: str) -> str:
    """The name of a domain, with one spelling for the default one."""
    return "" if domain in STANDARD_DOMAINS else domain


def label(node: NodeProto) -> str:
    """How messages call a node."""
    if node.name:
        return f"'{node.name}' ({node.op_type})"
    return f"{node.op_type} -> '{next((name for name in node.output if name), 'no output')}'"


def subgraphs(node: NodeProto) -> Iterator[GraphProto]:
    """The graphs in a node's attributes."""
    for attribute in node.attribute:
        if attribute.type == AttributeProto.GRAPH:
            yield attribute.g
        elif attribute.type == AttributeProto.GRAPHS:
            yield from attribute.graphs


def bodies(*roots: Body) -> Iterator[Body]:
    """Graphs or functions, and every graph nested in them. Raises ModelError when they are nested too deep."""
    stack: list[tuple[Body, int]] = [(body, 1) for body in reversed(roots)]
    while stack:
        body, depth = stack.pop()
        yield body
        inner = [graph for node in body.node for graph in subgraphs(node)]
        if inner and depth >= DEEPEST:
            raise ModelError(f"graphs are nested more than {DEEPEST} deep in this model: no runtime takes that")
        stack.extend((graph, depth + 1) for graph in inner)


def check_structure(model: ModelProto) -> None:
    """Raise ModelError unless the model is shallow enough to be walked, its names are texts and its versions known."""
    for body in bodies(model.graph, *model.functions):
        _check_texts(body)
    if not 1 <= model.ir_version <= onnx.IR_VERSION:
        if not model.ir_version:
            raise ModelError("the file has no IR version: it is not an ONNX model, or a broken one")
        raise ModelError(
            f"the model has IR version {model.ir_version}; versions 1 to {onnx.IR_VERSION} are known here: export it for an older one, or update onnx"
        )
    if not model.HasField("graph"):
        raise ModelError("the file has no graph: it is not an ONNX model, or a broken one")
    for owner in (model, *model.functions):
        _check_imports(owner)
    _check_functions(model)


def _check_texts(body: Body) -> None:
    for field in _BODY_TEXTS:
        _text(getattr(body, field, ""))
    for node in body.node:
        for field in _NODE_TEXTS:
            _text(getattr(node, field))
        for name in (*node.input, *node.output):
            _text(name)
        for attribute in node.attribute:
            for field in _ATTRIBUTE_TEXTS:
                _text(getattr(attribute, field))
            for tensor in (attribute.t, *attribute.tensors) if attribute.HasField("t") or attribute.tensors else ():
                _text(tensor.name)
    if isinstance(body, FunctionProto):
        for name in (*body.input, *body.output, *body.attribute):
            _text(name)
        return
    for item in (*body.input, *body.output, *body.initializer):
        _text(item.name)


def _text(value: str | bytes) -> None:
    if not isinstance(value, str):
        raise ModelError(f"a name in the model is not readable text ({bytes(value)[:20]!r}): the file is broken")
    if "\0" in value:
        raise ModelError(f"a name in the model holds a zero byte ({value[:20]!r}): the file is broken")


def _check_imports(owner: ModelProto | FunctionProto) -> None:
    known = onnx.defs.C.schema_version_map()
    seen: dict[str, int] = {}
    for entry in owner.opset_import:
        _text(entry.domain)
        domain = standard(entry.domain)
        if seen.setdefault(domain, entry.version) != entry.version:
            raise ModelError(f"the model imports {domain or 'the default domain'} twice, as version {seen[domain]} and as version {entry.version}")
        if not 0 <= entry.version < 2**31:
            raise ModelError(f"the model imports version {entry.version} of {domain or 'ai.onnx'}, which is no version: the file is broken")
        newest = known.get(domain, (1, 2**31))[1]
        if entry.version > newest and domain in known:
            raise ModelError(
                f"the model imports version {entry.version} of {domain or 'ai.onnx'}; versions up to {newest} are known here: "
                "update onnx, or export for an older one"
            )


def _check_functions(model: ModelProto) -> None:
    """No function is defined twice, calls itself, or unfolds into more nodes than anybody could run."""
    functions: dict[tuple[str, str, str], FunctionProto] = {}
    for function in model.functions:
        key = function_key(function.domain, function.name, function.overload)
        if key in functions:
            raise ModelError(f"the function '{function.domain}::{function.name}' is defined twice")
        functions[key] = function
    calls = {key: _calls(function, functions) for key, function in functions.items()}
    sizes: dict[tuple[str, str, str], int] = {}
    for key in functions:
        _unfold(key, calls, sizes)
    total = sum(count * sizes.get(key, 1) for key, count in _calls(model.graph, functions).items())
    if total > _MOST_NODES:
        raise ModelError(f"the functions of this model unfold into {total:.2g} nodes: no runtime takes that")


def function_key(domain: str, name: str, overload: str) -> tuple[str, str, str]:
    """What a node must name to call a function."""
    return standard(domain), name, overload


def _calls(body: Body, functions: dict[tuple[str, str, str], FunctionProto]) -> dict[tuple[str, str, str], int]:
    counts: dict[tuple[str, str, str], int] = {}
    stack: list[Body] = [body]
    while stack:
        for node in stack.pop().node:
            key = function_key(node.domain, node.op_type, node.overload)
            counts[key] = counts.get(key, 0) + 1
            stack.extend(subgraphs(node))
    return counts


def _unfold(start: tuple[str, str, str], calls: dict[tuple[str, str, str], dict[tuple[str, str, str], int]], sizes: dict[tuple[str, str, str], int]) -> None:
    """Note how many nodes a function unfolds into. Depth first without recursion: a chain of calls may be long."""
    active: dict[tuple[str, str, str], None] = {}
    stack = [start]
    while stack:
        key = stack[-1]
        if key in sizes:
            stack.pop()
            continue
        active[key] = None
        waiting = [callee for callee in calls[key] if callee in calls and callee not in sizes]
        looping = next((callee for callee in waiting if callee in active), None)
        if looping is not None:
            raise ModelError(f"the function '{looping[0]}::{looping[1]}' calls itself, directly or through others")
        if waiting:
            stack.append(waiting[0])
            continue
        sizes[key] = sum(count * sizes.get(callee, 1) for callee, count in calls[key].items())
        active.pop(key)
        stack.pop()


def check_type(kind: TypeProto, what: str) -> None:
    """Raise ModelError unless this is a type that can be compiled: tensors, and sequences and optionals of them."""
    for _ in range(_DEEPEST_TYPE):
        which = kind.WhichOneof("value")
        if which == "tensor_type":
            dtype_of(what, kind.tensor_type.elem_type)
            check_dims(what, tuple(dim.dim_value for dim in kind.tensor_type.shape.dim if dim.HasField("dim_value")))
            return
        if which == "map_type":
            raise ModelError(f"{what} is a map, which is not supported: export the model without it (in sklearn-onnx: zipmap=False)")
        if which not in ("sequence_type", "optional_type"):
            raise ModelError(f"{what} has {'no type' if which is None else f'the type {which}, which is not supported'}")
        if not getattr(kind, which).HasField("elem_type"):
            raise ModelError(f"{what} is a {which.removesuffix('_type')} that does not say of what")
        kind = getattr(kind, which).elem_type
    raise ModelError(f"the type of {what} is nested more than {_DEEPEST_TYPE} deep")
