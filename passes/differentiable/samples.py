"""The calibration samples themselves, for whoever learns from them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from ...compiler.core.errors import InputError
from ...compiler.core.statistics import Calibrator

__all__ = ["samples_of", "stream_samples"]


def stream_samples(calibrator: Calibrator, model: ir.Model, limit: int | None = None) -> Iterator[dict[str, np.ndarray]]:
    """The samples (the first ``limit``) one by one, by input name."""
    inputs = [ir.Value(name=value.name, shape=value.shape, type=value.type) for value in model.graph.inputs if not value.is_initializer()]
    nodes = [ir.Node("", "Identity", [value], name=f"echo_{place}") for place, value in enumerate(inputs)]
    for value, node in zip(inputs, nodes, strict=True):
        node.outputs[0].name, node.outputs[0].type, node.outputs[0].shape = f"{value.name}_echo", value.type, value.shape
    graph = ir.Graph(inputs, [node.outputs[0] for node in nodes], nodes=nodes, opset_imports={"": model.graph.opset_imports.get("", 21)}, name="echo")
    for echo in calibrator.outputs(ir.Model(graph, ir_version=model.ir_version), limit):
        yield {name.removesuffix("_echo"): np.asarray(item) for name, item in echo.items()}


def samples_of(calibrator: Calibrator, model: ir.Model, limit: int) -> list[dict[str, np.ndarray]]:
    """The first samples, by input name. Raises InputError when there are none."""
    found = list(stream_samples(calibrator, model, limit))
    if not found:
        raise InputError("there are no calibration samples to learn from")
    return found
