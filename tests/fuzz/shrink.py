"""Makes a failing model smaller for as long as it fails in the same way."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import onnx

from .generator import names_read

MAX_TRIES = 400


def shrunk(model: onnx.ModelProto, fails: Callable[[onnx.ModelProto], bool], tries: int = MAX_TRIES) -> onnx.ModelProto:
    """The smallest model that was found: with fewer outputs, with nodes left out, or with values fed instead of computed."""
    changed = True
    while changed and tries > 0:
        changed = False
        for candidate in _smaller(model):
            tries -= 1
            if tries <= 0:
                break
            if _works(candidate) and fails(candidate):
                model, changed = candidate, True
                break
    return model


def _works(model: onnx.ModelProto) -> bool:
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError:
        return False
    return True


def _smaller(model: onnx.ModelProto) -> Iterator[onnx.ModelProto]:
    for place in range(len(model.graph.output) if len(model.graph.output) > 1 else 0):
        copy = _copy(model)
        del copy.graph.output[place]
        yield _tidied(copy)
    types = _types(model)
    for place in range(len(model.graph.node)):
        yield from _fed(model, place, types)
        yield from _bypassed(model, place, types)
    for place in range(len(model.graph.node) - 1, -1, -1):
        yield from _ended(model, place, types)


def _copy(model: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def _types(model: onnx.ModelProto) -> dict[str, onnx.TypeProto]:
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    found = {info.name: info.type for info in (*inferred.input, *inferred.value_info, *inferred.output)}
    for tensor in model.graph.initializer:
        found[tensor.name] = onnx.helper.make_tensor_type_proto(tensor.data_type, tensor.dims)
    return found


def _fed(model: onnx.ModelProto, place: int, types: dict[str, onnx.TypeProto]) -> Iterator[onnx.ModelProto]:
    """The node's outputs become inputs of the model."""
    node = model.graph.node[place]
    outputs = {value.name for value in model.graph.output}
    if any(name in outputs or not types.get(name, onnx.TypeProto()).tensor_type.HasField("shape") for name in node.output if name):
        return
    copy = _copy(model)
    del copy.graph.node[place]
    for name in node.output:
        if name:
            copy.graph.input.append(onnx.ValueInfoProto(name=name, type=types[name]))
    yield _tidied(copy)


def _bypassed(model: onnx.ModelProto, place: int, types: dict[str, onnx.TypeProto]) -> Iterator[onnx.ModelProto]:
    """Who reads the node reads one of its inputs instead."""
    node = model.graph.node[place]
    if len(node.output) != 1:
        return
    wanted = types.get(node.output[0], onnx.TypeProto()).tensor_type
    for name in node.input:
        if name in types and types[name].tensor_type == wanted and node.output[0] not in {value.name for value in model.graph.output}:
            copy = _copy(model)
            del copy.graph.node[place]
            for other in copy.graph.node:
                other.input[:] = [name if read == node.output[0] else read for read in other.input]
            yield _tidied(copy)


def _ended(model: onnx.ModelProto, place: int, types: dict[str, onnx.TypeProto]) -> Iterator[onnx.ModelProto]:
    """The model ends before the node, whose inputs become outputs."""
    node = model.graph.node[place]
    made = {name for other in model.graph.node for name in other.output}
    if len(model.graph.output) != 1 or node.output[0] != model.graph.output[0].name:
        return
    for name in node.input:
        if name in made and name in types:
            copy = _copy(model)
            del copy.graph.output[:]
            copy.graph.output.append(
                onnx.helper.make_tensor_value_info(name, types[name].tensor_type.elem_type, [None] * len(types[name].tensor_type.shape.dim))
            )
            yield _tidied(copy)


def _tidied(model: onnx.ModelProto) -> onnx.ModelProto:
    """Without what nothing reads."""
    graph = model.graph
    del graph.value_info[:]
    while True:
        read = names_read(graph.node) | {value.name for value in graph.output}
        dead = [place for place, node in enumerate(graph.node) if not any(name in read for name in node.output)]
        if not dead:
            break
        for place in reversed(dead):
            del graph.node[place]
    for items in (graph.input, graph.initializer):
        for place in range(len(items) - 1, -1, -1):
            if items[place].name not in read:
                del items[place]
    return model
