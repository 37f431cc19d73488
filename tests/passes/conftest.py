"""What tests of passes run models with."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest

Feeds = Mapping[str, object]
Outputs = dict[str, object]


@pytest.fixture(scope="session")
def run_onnx() -> Callable[..., Outputs]:
    """``run_onnx(model, feeds)`` -> outputs by name, from ONNX Runtime with every optimisation off."""
    return _run


@pytest.fixture(scope="session")
def assert_same_bits() -> Callable[[Outputs, Outputs], None]:
    """Fails unless two sets of outputs have the same names, dtypes, shapes and bits; any NaN equals any other."""
    return _assert_same_bits


def _run(model: ir.Model | onnx.ModelProto, feeds: Feeds) -> Outputs:
    proto = ir.to_proto(model) if isinstance(model, ir.Model) else model
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(feeds)), strict=True))


def _assert_same_bits(before: Outputs, after: Outputs) -> None:
    assert list(before) == list(after)
    for name, old in before.items():
        _assert_same(name, old, after[name])


def _assert_same(name: str, old: object, new: object) -> None:
    if isinstance(old, list):
        assert isinstance(new, list) and len(new) == len(old), name
        for one, other in zip(old, new, strict=True):
            _assert_same(name, one, other)
        return
    if old is None:
        assert new is None, name
        return
    assert isinstance(old, np.ndarray) and isinstance(new, np.ndarray)
    assert (old.dtype, old.shape) == (new.dtype, new.shape), name
    if old.dtype == object:
        assert old.tolist() == new.tolist(), name
        return
    nan = np.isnan(old) & np.isnan(new) if old.dtype.kind in "fc" else np.zeros(old.shape, dtype=bool)
    bits = np.ascontiguousarray(old).view(np.uint8).reshape(*old.shape, old.itemsize) if old.ndim else np.frombuffer(old.tobytes(), np.uint8)
    other = np.ascontiguousarray(new).view(np.uint8).reshape(*new.shape, new.itemsize) if new.ndim else np.frombuffer(new.tobytes(), np.uint8)
    equal = (bits == other).all(axis=-1)
    assert (equal | nan).all(), f"{name}: {old[~(equal | nan)][:5]} became {new[~(equal | nan)][:5]}"
