"""The cleanup passes on every real model: the same bits, and nothing left to do the second time."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from graphwright.compiler.core.graph import all_graphs, bind_opsets
from graphwright.compiler.core.passes import Context, parse_pipeline
from graphwright.compiler.core.wellformed import check
from graphwright.models.shared import shared_folder
from graphwright.passes.cleanup.opset import NormaliseOpset

PIPELINE = "inline-functions,constants-to-initialisers,deduplicate-initialisers,eliminate-common-subexpressions,eliminate-dead-code"
SIZES = {"batch": 2, "seq": 5, "chars": 6, "height": 32, "width": 48}
SCALARS = {"sr": 8000}
VAD_FRAME = 256


def _models() -> list[str]:
    folder = shared_folder()
    return sorted(path.name for path in (folder / "models").glob("*.onnx")) if folder else []


def _feed(value: ir.Value, generator: np.random.Generator) -> np.ndarray:
    """Numbers that the real models take, with infinities and NaN among the floats."""
    if value.name in SCALARS:
        return np.array(SCALARS[value.name], dtype=np.int64)
    shape = [dim if isinstance(dim, int) else SIZES.get(str(dim.value), 1) for dim in value.shape]
    if value.name == "input" and len(shape) == 2:
        shape = [1, VAD_FRAME]
    dtype = value.dtype.numpy()
    if np.dtype(dtype).kind in "iu":
        return generator.integers(0, 255 if dtype == np.uint8 else 20, shape).astype(dtype)
    content = generator.standard_normal(shape).astype(dtype)
    content.reshape(-1)[generator.integers(0, content.size, 4)] = [0.0, -0.0, np.inf, np.nan]
    return content


@pytest.mark.shared
@pytest.mark.parametrize("name", _models())
def test_real_model_keeps_every_bit(name: str, shared, run_onnx, assert_same_bits) -> None:
    model = ir.load(shared / "models" / name)
    bind_opsets(model)
    NormaliseOpset().run(model, Context())
    generator = np.random.default_rng(1)
    feeds = {value.name: _feed(value, generator) for value in model.graph.inputs if not value.is_initializer()}
    before = run_onnx(model, feeds)
    for step in parse_pipeline(PIPELINE):
        step.run(model, Context())
        check(model)
    assert_same_bits(before, run_onnx(model, feeds))
    assert sum(step.run(model, Context()) for step in parse_pipeline(PIPELINE)) == 0
    assert not any(node.op_type == "Constant" for graph in all_graphs(model) for node in graph if not node.outputs[0].is_graph_output())
