"""The models of old opsets that the onnx package carries, with the outputs they had when they were published."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from graphwright.compiler.core.graph import bind_opsets
from graphwright.compiler.core.passes import Context
from graphwright.compiler.core.wellformed import check
from graphwright.passes.cleanup.opset import NormaliseOpset

FOLDER = Path(onnx.__file__).parent / "backend" / "test" / "data"
BEYOND_RUNTIME = ("gradient", "strnorm_model_monday")
"""What ONNX Runtime cannot run, at any opset."""


def _folders() -> list[Path]:
    found = sorted(path.parent for kind in ("pytorch-converted", "pytorch-operator", "simple") for path in (FOLDER / kind).glob("*/model.onnx"))
    return [path for path in found if not any(word in path.name for word in BEYOND_RUNTIME)]


def _tensors(folder: Path, kind: str) -> list[np.ndarray | None]:
    """The inputs or outputs of a test, in order; None for one that is no tensor."""
    files = sorted((folder / "test_data_set_0").glob(f"{kind}_*.pb"), key=lambda path: int(path.stem.rsplit("_", 1)[1]))
    return [_tensor(path) for path in files]


def _tensor(path: Path) -> np.ndarray | None:
    proto = onnx.TensorProto()
    try:
        proto.ParseFromString(path.read_bytes())
        return onnx.numpy_helper.to_array(proto)
    except Exception:
        return None


def test_the_package_carries_them() -> None:
    assert len(_folders()) > 100


@pytest.mark.parametrize("folder", _folders(), ids=lambda folder: folder.name)
def test_published_model_gives_its_published_outputs_at_opset_21(folder: Path, run_onnx) -> None:
    inputs, outputs = _tensors(folder, "input"), _tensors(folder, "output")
    if any(tensor is None for tensor in (*inputs, *outputs)):
        pytest.skip("its inputs or outputs are sequences")
    model = ir.load(folder / "model.onnx")
    bind_opsets(model)
    assert NormaliseOpset().run(model, Context()) == 1
    check(model)
    names = [value.name for value in model.graph.inputs if not value.is_initializer()]
    after = run_onnx(model, dict(zip(names, inputs, strict=True)))
    for value, wanted in zip(after.values(), outputs, strict=True):
        assert value.shape == wanted.shape
        if wanted.dtype.kind in "fc":
            np.testing.assert_allclose(value, wanted, rtol=1e-3, atol=1e-6)
        else:
            assert value.tolist() == wanted.tolist()
