"""Small models, and calibration of them, that tests of static quantisation share."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import onnx
import onnx_ir as ir

from graphwright.backends.ort.backend import OrtBackend
from graphwright.compiler.calibration.engine import Engine
from graphwright.compiler.calibration.opening import open_calibration
from graphwright.compiler.core.graph import bind_opsets, clone_model
from graphwright.compiler.core.judge import Judge
from graphwright.compiler.core.passes import Context
from graphwright.compiler.core.target import Target
from graphwright.passes.quantize.static import QuantizeStatic

CPU = Target("ort-cpu", "ort")
Feeds = dict[str, np.ndarray]


def model_of(text: str, constants: Mapping[str, np.ndarray] | None = None, opset: int = 17) -> ir.Model:
    """A model in ONNX text; ``constants`` are added as initialisers."""
    proto = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : {opset}]> {text}')
    for name, content in (constants or {}).items():
        proto.graph.initializer.append(onnx.numpy_helper.from_array(content, name))
    model = ir.from_proto(proto)
    bind_opsets(model)
    return model


def kernel(*shape: int, seed: int = 0, scale: float = 0.3) -> np.ndarray:
    """Random weights of a shape."""
    return (np.random.default_rng(seed).standard_normal(shape) * scale).astype(np.float32)


def images(count: int, *shape: int, name: str = "x", seed: int = 1) -> list[Feeds]:
    """Random inputs called ``name``."""
    generator = np.random.default_rng(seed)
    return [{name: generator.standard_normal(shape).astype(np.float32)} for _ in range(count)]


def quantised(
    model: ir.Model, feeds: list[Feeds], step: QuantizeStatic | None = None, target: Target = CPU, judge: Judge | None = None
) -> tuple[ir.Model, Context, int]:
    """A quantised copy of the model, what the pass was told and noted, and how many sites it took."""
    copy = clone_model(model)
    context = Context(target=target, calibrator=Engine(open_calibration(feeds, copy), OrtBackend()), judge=judge)
    taken = (step or QuantizeStatic(ranges="minmax", equalize=False)).run(copy, context)
    return copy, context, taken


def run(model: ir.Model, feeds: Feeds) -> np.ndarray:
    """The only output of a model with every optimisation off: what its nodes say."""
    with_optimisations_off = OrtBackend().reference(model)
    (output,) = with_optimisations_off.run(feeds).values()
    with_optimisations_off.close()
    return np.asarray(output)


def kinds(model: ir.Model) -> list[str]:
    """The operators of a model in order."""
    return [node.op_type for node in model.graph]


def made_by(model: ir.Model, kind: str) -> Callable[[int], ir.Node]:
    """The nodes of a kind by their place."""
    return [node for node in model.graph if node.op_type == kind].__getitem__
