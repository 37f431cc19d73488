"""What rules fire on, glued into a random model: their own examples, at times with a part of them changed."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Mapping

import numpy as np
import onnx

from graphwright.compiler.core.passes import pass_classes
from graphwright.compiler.core.rulepass import RulePass, rules_below

from .draft import OPSET, Dim, Draft, Value

HEADER = f'<ir_version: 10, opset_import: ["" : {OPSET}, "com.microsoft" : 1]>\n'
NUMBERS = (0.5, 2.0, -1.0, 1.001, 0.0)


@functools.cache
def fragments() -> tuple[tuple[str, onnx.ModelProto], ...]:
    """Every example of every rule that is of our opset: the rule's name, and the model with its inner types inferred."""
    found = []
    rules = {rule.name: rule for kind in pass_classes().values() if issubclass(kind, RulePass) for rule in rules_below(kind.folder)}
    for name, rule in sorted(rules.items()):
        for text in (*rule.examples, *rule.leaves):
            model = onnx.parser.parse_model(text if text.startswith("<") else HEADER + text)
            versions = {entry.domain: entry.version for entry in model.opset_import}
            if versions.get("", OPSET) != OPSET or model.functions or any(_trains(node) for node in model.graph.node):
                continue
            with contextlib.suppress(onnx.shape_inference.InferenceError):  # Some look-alikes declare a shape for their output that it does not have.
                found.append((name, onnx.shape_inference.infer_shapes(model)))
    return tuple(found)


def _trains(node: onnx.NodeProto) -> bool:
    """Whether ONNX Runtime computes something else the second time: it writes the statistics that such a BatchNormalization makes over its weights."""
    return any(attribute.name == "training_mode" and attribute.i for attribute in node.attribute)


def glue(draft: Draft) -> object:
    """An example whose inputs are values that are there already, where they fit, and new inputs elsewhere."""
    _, model = draft.draw.choice(fragments())
    symbols: dict[str, Dim] = {}
    names: dict[str, str] = {}
    for info in model.graph.input:
        if info.type.WhichOneof("value") != "tensor_type":
            return None
        value = _bind(draft, info, symbols)
        names[info.name] = value.name
    for tensor in model.graph.initializer:
        copy = onnx.TensorProto()
        copy.CopyFrom(tensor)
        copy.name = names[tensor.name] = draft.fresh()
        draft.initializers.append(_bent(draft, copy))
    shapes = {info.name: info for info in (*model.graph.value_info, *model.graph.output)}
    start = len(draft.nodes)
    for node in model.graph.node:
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        for name in node.output:
            names[name] = draft.fresh() if name else ""
        _rename(copy, names, draft)
        draft.nodes.append(copy)
        draft.values.extend(value for name in node.output if (value := _value(names[name], shapes.get(name), symbols)) is not None)
    if draft.draw.random() < 0.2:
        _reroute(draft, draft.nodes[start:])
    return draft.nodes


def _bind(draft: Draft, info: onnx.ValueInfoProto, symbols: dict[str, Dim]) -> Value:
    kind = info.type.tensor_type
    dims = [dim.dim_param or dim.dim_value for dim in kind.shape.dim]

    def fits(value: Value) -> bool:
        return value.dtype == kind.elem_type and _unified(dims, value.shape, symbols) is not None

    value = draft.pick(fits) if draft.draw.random() < 0.6 else None
    if value is None:
        value = draft.input(kind.elem_type, [symbols.setdefault(dim, draft.draw.choice(("N", "M", dim))) if isinstance(dim, str) else dim for dim in dims])
    else:
        symbols.update(_unified(dims, value.shape, symbols) or {})
    return value


def _unified(dims: list[Dim], shape: tuple[Dim, ...], symbols: Mapping[str, Dim]) -> dict[str, Dim] | None:
    """What the symbols of ``dims`` have to stand for; None when the shape does not fit."""
    if len(dims) != len(shape):
        return None
    found: dict[str, Dim] = {}
    for dim, size in zip(dims, shape, strict=True):
        if isinstance(dim, str):
            if {**symbols, **found}.setdefault(dim, size) != size:
                return None
            found[dim] = size
        elif dim != size:
            return None
    return found


def _value(name: str, info: onnx.ValueInfoProto | None, symbols: Mapping[str, Dim]) -> Value | None:
    """The value as the example's own types say; None where they do not."""
    if not name or info is None or not info.type.tensor_type.HasField("shape"):
        return None
    dims = [dim.dim_param or dim.dim_value for dim in info.type.tensor_type.shape.dim]
    if any(isinstance(dim, str) and dim not in symbols for dim in dims):
        return None
    return Value(name, info.type.tensor_type.elem_type, tuple(symbols[dim] if isinstance(dim, str) else dim for dim in dims))


def _rename(node: onnx.NodeProto, names: Mapping[str, str], draft: Draft) -> None:
    node.name = ""
    node.input[:] = [names.get(name, name) for name in node.input]
    node.output[:] = [names.get(name, name) for name in node.output]
    for attribute in node.attribute:
        if attribute.HasField("g"):
            _rename_graph(attribute.g, dict(names), draft)


def _rename_graph(graph: onnx.GraphProto, names: dict[str, str], draft: Draft) -> None:
    made = [info.name for info in graph.input] + [tensor.name for tensor in graph.initializer] + [name for node in graph.node for name in node.output if name]
    names.update({name: draft.fresh() for name in made})
    for item in (*graph.input, *graph.initializer, *graph.output, *graph.value_info):
        item.name = names.get(item.name, item.name)
    for node in graph.node:
        _rename(node, names, draft)


def _bent(draft: Draft, tensor: onnx.TensorProto) -> onnx.TensorProto:
    """The tensor, once in a while with other numbers in it: a look-alike."""
    if draft.draw.random() > 0.08 or tensor.data_type not in (1, 10, 11):
        return tensor
    content = onnx.numpy_helper.to_array(tensor) * np.array(draft.draw.choice(NUMBERS))
    return onnx.numpy_helper.from_array(content.astype(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)), tensor.name)


def _reroute(draft: Draft, nodes: list[onnx.NodeProto]) -> None:
    """Let one node of a fragment read something else of the same dtype and shape."""
    known = {value.name: value for value in draft.values}
    for node in draft.draw.sample(nodes, len(nodes)):
        for place, name in enumerate(node.input):
            old = known.get(name)
            made = {other for later in nodes for other in later.output}
            others = [
                value
                for value in draft.values
                if old and value.name != name and (value.dtype, value.shape) == (old.dtype, old.shape) and value.name not in made
            ]
            if others:
                node.input[place] = draft.draw.choice(others).name
                return
