"""A model, its reference, and what the tests of the driver ask of a compilation."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import onnxruntime

from graphwright.compiler.driver import compile_model
from graphwright.compiler.request import Request

GELU = """
<ir_version: 10, opset_import: ["" : 21]>
gelu (float[batch, 4] x) => (float[batch, 4] y)
<float root = {1.4142135}, float one = {1.0}, float half = {0.5}, float[4, 4] w = {1,2,3,4, 0,1,0,2, 3,0,1,0, 1,1,1,2}>
{
  m = MatMul(x, w)
  same = Identity(m)
  d = Div(same, root)
  e = Erf(d)
  p = Add(e, one)
  q = Mul(same, p)
  y = Mul(q, half)
}
"""
X = np.linspace(-2, 2, 8, dtype=np.float32).reshape(2, 4)

Decide = Callable[..., None]


def parse(text: str = GELU) -> onnx.ModelProto:
    return onnx.parser.parse_model(text)


def reference(model: onnx.ModelProto, **feeds: np.ndarray) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"]).run(None, feeds)


def hit(model: object, example: object = X, **options: object) -> bool:
    """Whether a compilation came from the cache."""
    cache = compile_model(model, example, Request(**options)).report.cache  # type: ignore[arg-type]
    assert cache is not None
    return cache.hit
