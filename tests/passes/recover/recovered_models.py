"""Compressed models that recover, and what they are held to."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import onnx_ir as ir

from graphwright.backends.ort.backend import OrtBackend
from graphwright.compiler.calibration.engine import Engine
from graphwright.compiler.calibration.opening import open_calibration
from graphwright.compiler.core.graph import bind_opsets, clone_model
from graphwright.compiler.core.passes import Context, parse_pipeline
from graphwright.compiler.manager import Manager
from graphwright.compiler.targets import find_target

HEADER = '<ir_version: 10, opset_import: ["" : 21]>\n'
Sample = dict[str, np.ndarray]

NET = """net (float[n, 16] x) => (float[n, 6] y) {
    a = MatMul(x, A)
    b = Add(a, B)
    c = Relu(b)
    d = MatMul(c, C)
    e = Add(d, x)
    f = LayerNormalization(e, S, T)
    g = MatMul(f, D)
    h = Add(g, E)
    i = Relu(h)
    y = MatMul(i, F) }"""
WEIGHTS = {"A": (16, 48), "B": (48,), "C": (48, 16), "S": (16,), "T": (16,), "D": (16, 32), "E": (32,), "F": (32, 6)}
CONVOLVED = """net (float[n, 3, 8, 8] x) => (float[n, 5] y) {
    a = Conv<pads = [1, 1, 1, 1]>(x, A, B)
    b = Relu(a)
    c = Conv<pads = [1, 1, 1, 1], strides = [2, 2]>(b, C, D)
    d = Relu(c)
    e = GlobalAveragePool(d)
    f = Flatten(e)
    y = Gemm(f, E, F) }"""
KERNELS = {"A": (12, 3, 3, 3), "B": (12,), "C": (16, 12, 3, 3), "D": (16,), "E": (16, 5), "F": (5,)}


def drawn(text: str, shapes: dict[str, tuple[int, ...]], seed: int = 0) -> ir.Model:
    """A model with random weights, scaled so that values keep their size."""
    proto = onnx.parser.parse_model(HEADER + text)
    random = np.random.default_rng(seed)
    for name, shape in shapes.items():
        fan = int(np.prod(shape[1:])) if len(shape) > 2 else shape[0]
        content = random.standard_normal(shape) * (2 / fan) ** 0.5 if len(shape) > 1 else 1 + 0.1 * random.standard_normal(shape)
        proto.graph.initializer.append(onnx.numpy_helper.from_array(content.astype(np.float32), name))
    model = ir.from_proto(proto)
    bind_opsets(model)
    return model


def samples(shape: tuple[int, ...], count: int = 64, seed: int = 1) -> list[Sample]:
    """Random inputs ``x``, correlated, so that some of the model is needed less."""
    random = np.random.default_rng(seed)
    mixed = np.random.default_rng(7).standard_normal((shape[1], shape[1])) / shape[1] ** 0.5
    return [{"x": np.moveaxis(np.moveaxis(random.standard_normal(shape), 1, -1) @ mixed, -1, 1).astype(np.float32)} for _ in range(count)]


def context(model: ir.Model, original: ir.Model | None, data: list[Sample], target: str = "onnx") -> Context:
    """What the pass is told."""
    return Context(find_target(target), calibrator=Engine(open_calibration(data, model), OrtBackend()), original=original)


def piped(model: ir.Model, text: str, data: list[Sample], target: str = "onnx") -> tuple[ir.Model, list[str]]:
    """A model after a pipeline, as the manager runs it, and the notes."""
    copy = clone_model(model)
    records = Manager(find_target(target), calibrator=Engine(open_calibration(data, copy), OrtBackend()), strict=True).run(copy, parse_pipeline(text))
    return copy, [note for record in records for note in record.notes]


def off(run_onnx: Callable[..., dict[str, object]], original: ir.Model, model: ir.Model, data: list[Sample]) -> float:
    """The squared error of all answers as a part of how much the original's vary."""
    before, after = (np.concatenate([np.asarray(run_onnx(one, sample)["y"]) for sample in data]) for one in (original, model))
    return float(np.square(after - before).sum() / np.square(before - before.mean(0)).sum())
