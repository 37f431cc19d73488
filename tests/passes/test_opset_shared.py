"""Every real model comes up to opset 21 and goes on computing the same."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from graphwright.compiler.core.graph import bind_opsets
from graphwright.compiler.core.passes import Context
from graphwright.compiler.core.reasons import Reasons
from graphwright.compiler.core.wellformed import check
from graphwright.models.shared import shared_folder
from graphwright.passes.cleanup.opset import NormaliseOpset

SIZES = {"batch": 1, "seq": 7, "chars": 9, "height": 64, "width": 64}
SCALARS = {"sr": 16000}
VAD_FRAME = 512


def _models() -> list[str]:
    folder = shared_folder()
    return sorted(path.name for path in (folder / "models").glob("*.onnx")) if folder else []


def _feed(value: ir.Value, generator: np.random.Generator) -> np.ndarray:
    """Numbers that the real models take: small token ids, pixels, a state."""
    if value.name in SCALARS:
        return np.array(SCALARS[value.name], dtype=np.int64)
    shape = [dim if isinstance(dim, int) else SIZES.get(str(dim.value), 1) for dim in value.shape]
    if value.name == "input" and len(shape) == 2:
        shape = [1, VAD_FRAME]
    dtype = value.dtype.numpy()
    if np.dtype(dtype).kind in "iu":
        return generator.integers(0, 255 if dtype == np.uint8 else 20, shape).astype(dtype)
    return generator.standard_normal(shape).astype(dtype)


@pytest.mark.shared
@pytest.mark.parametrize("name", _models())
def test_real_model_computes_the_same_at_opset_21(name: str, shared, run_onnx, assert_same_bits) -> None:
    model = ir.load(shared / "models" / name)
    bind_opsets(model)
    rounds = any(node.op_type == "AveragePool" for node in model.graph.all_nodes()) or any(value.dtype == ir.DataType.FLOAT16 for value in model.graph.inputs)
    generator = np.random.default_rng(0)
    feeds = {value.name: _feed(value, generator) for value in model.graph.inputs if not value.is_initializer()}
    before = run_onnx(model, feeds)
    context = Context(reasons=Reasons())
    assert NormaliseOpset().run(model, context) == 1, context.reasons.misses
    check(model)
    after = run_onnx(model, feeds)
    if not rounds:
        assert_same_bits(before, after)
        return
    for output, old in before.items():
        if old.dtype.kind == "f":
            eps = np.finfo(old.dtype).eps
            np.testing.assert_allclose(after[output], old, rtol=8 * eps, atol=4 * eps * np.abs(old).max(), err_msg=output)
        else:
            assert np.array_equal(after[output], old)
