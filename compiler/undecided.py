"""What becomes of NaN in an operator that picks the largest or smallest of several numbers.

ONNX does not say, and ONNX Runtime's MaxPool and ReduceMax keep a NaN or pass over it depending on where it lies in a vector of the processor. So nobody
can be held to either, nor to anything that only follows from it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import TypeGuard

import numpy as np
import onnx_ir as ir

from .core.backend import Array, Runner, Sample
from .core.build import Build
from .core.errors import ModelError
from .core.graph import all_graphs, clone_model, opset
from .core.names import Names
from .core.shapes import infer_shapes
from .core.target import STANDARD_DOMAINS
from .tolerance import is_float

__all__ = ["settled", "undecided"]

LARGEST, SMALLEST = frozenset({"MaxPool", "GlobalMaxPool", "ReduceMax"}), frozenset({"ReduceMin"})
SINCE = 9
"""The first opset in which a model can ask what is NaN."""
FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.DOUBLE)


def picks(model: ir.Model) -> bool:
    """Whether a model has such an operator."""
    return any(_picks(node) for graph in all_graphs(model) for node in graph)


def undecided(model: ir.Model, sample: Sample, reference: Callable[[ir.Model], Runner]) -> dict[str, np.ndarray]:
    """For each output that is an array, True at the places that differ between the model passing over every NaN and the model keeping every one.

    Empty where that cannot be told: there is no such operator, or the model does not run so; an old one is taken for one of opset 9. Two runs of the model.
    """
    if not picks(model):
        return {}
    try:
        passed, kept = (_outputs(_changed(model, change), sample, reference) for change in (_pass_over, _keep))
    except Exception:  # Whatever a runtime says: nothing is excused then.
        return {}
    pairs = ((name, value, kept.get(name)) for name, value in passed.items())
    arrays = ((name, one, other) for name, one, other in pairs if _is_array(one) and _is_array(other))
    return {name: _unlike(one, other) for name, one, other in arrays if one.shape == other.shape and one.dtype == other.dtype}


def settled(before: Array, after: Array, places: np.ndarray | None) -> Array:
    """``after`` with the elements of ``before`` at the places that are undecided."""
    if places is None or not _is_array(before) or not _is_array(after) or not before.shape == after.shape == places.shape:
        return after
    return np.where(places, before, after).astype(after.dtype)


def _picks(node: ir.Node) -> bool:
    return node.domain in STANDARD_DOMAINS and node.op_type in LARGEST | SMALLEST


def _outputs(model: ir.Model, sample: Sample, reference: Callable[[ir.Model], Runner]) -> Mapping[str, Array]:
    runner = reference(model)
    try:
        return runner.run(sample)
    finally:
        runner.close()


def _changed(model: ir.Model, change: Callable[[Build, ir.Node], None]) -> ir.Model:
    """A copy in which every such operator on floats is changed."""
    copy = clone_model(model)
    with contextlib.suppress(ModelError):  # What the file itself says about types is used then.
        infer_shapes(copy)
    if opset(copy) < SINCE:
        copy.graph.opset_imports[""] = SINCE
    names = Names(copy)
    for graph in all_graphs(copy):
        for node in [node for node in graph if _picks(node) and node.inputs[0] is not None and node.inputs[0].dtype in FLOATS]:
            pen = Build()
            change(pen, node)
            _put_in(pen, names, graph)
    return copy


def _pass_over(pen: Build, node: ir.Node) -> None:
    """It reads NaN as the number that is never picked."""
    source = node.inputs[0]
    assert source is not None and source.dtype is not None and node.graph is not None
    limits = np.finfo(source.dtype.numpy())
    never = pen.const(np.array(limits.min if node.op_type in LARGEST else limits.max))
    read = pen.Where(pen.IsNaN(source), never, source)
    node.graph.insert_before(node, pen.nodes)
    node.replace_input_with(0, read)  # type: ignore[arg-type]


def _keep(pen: Build, node: ir.Node) -> None:
    """It gives NaN wherever one is among what it picks from."""
    source, result = node.inputs[0], node.outputs[0]
    assert source is not None and source.dtype is not None and node.graph is not None
    users = tuple(result.uses())
    kind = "ReduceMax" if node.op_type in SMALLEST else node.op_type
    marks = pen.Cast(pen.IsNaN(source), to=source.dtype.value)
    found = pen.node(kind, (marks, *node.inputs[1:]), {**node.attributes, "storage_order": None}).outputs[0]  # type: ignore[arg-type]
    kept = pen.Where(pen.Greater(found, pen.const(np.zeros((), source.dtype.numpy()))), pen.const(np.array(np.nan, source.dtype.numpy())), result)
    assert isinstance(kept, ir.Value)
    kept.type, kept.shape = result.type, result.shape
    node.graph.insert_after(node, pen.nodes)
    for user, index in users:
        user.replace_input_with(index, kept)
    if isinstance(node.graph, ir.Graph) and result.is_graph_output():
        kept.name, result.name = result.name, None
        node.graph.outputs[list(node.graph.outputs).index(result)] = kept


def _put_in(pen: Build, names: Names, graph: ir.Graph) -> None:
    """Name what was drawn, and make its constants initialisers."""
    for value in pen.constants:
        value.name = names.fresh(f"nan_{value.meta['hint']}")
        graph.register_initializer(value)
    for node in pen.nodes:
        for touched in (*node.outputs, *node.inputs):
            if touched is not None and touched.name is None:
                touched.name = names.fresh(f"nan_{node.op_type}")


def _is_array(value: Array | None) -> TypeGuard[np.ndarray]:
    return isinstance(value, np.ndarray)


def _unlike(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    if not is_float(one.dtype):
        return np.asarray(one != other)
    return np.asarray((one != other) & ~(np.isnan(one) & np.isnan(other)))
