"""Shapes of whole exports, of ONNX Runtime's operators and of the real models."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from graphwright.compiler.core import shapes
from graphwright.compiler.core.graph import bind_opsets
from graphwright.compiler.core.symbolic.standard import StandardInference
from graphwright.models.tiny import FAMILIES, find_tiny

from .inferring import assert_shapes_hold, feeds_for, inferred, shape_of, value_of


def test_repeated_layers_are_asked_about_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal layers put the same few questions to ONNX, so the work grows with the nodes and no faster."""
    asked = []
    answer = StandardInference.outcomes
    monkeypatch.setattr(StandardInference, "outcomes", lambda self, node: asked.append(self) or answer(self, node))
    steps = "\n".join(f"v{i} = {('Relu', 'Neg', 'Exp')[i % 3]}({f'v{i - 1}' if i else 'x'})" for i in range(400))
    model = inferred(f"g (float[N,3] x) => (float[A,B] y) {{ {steps} y = Abs(v399) }}")
    assert shape_of(model, "y") == "[N,3]"
    assert len(asked) == 401 and len(asked[0].answers) == 4


CONTRIB: dict[str, tuple[str, str]] = {
    "BiasGelu": ("float[N,M,8] x, float[8] b", "com.microsoft.BiasGelu(x, b)"),
    "FastGelu": ("float[N,M,8] x, float[8] b", "com.microsoft.FastGelu(x, b)"),
    "QuickGelu": ("float[N,M,8] x", "com.microsoft.QuickGelu(x)"),
    "SkipLayerNormalization": ("float[N,M,8] x, float[N,M,8] s, float[8] g", "com.microsoft.SkipLayerNormalization(x, s, g)"),
    "FusedMatMul": ("float[N,8,M] x, float[N,K,8] z", "com.microsoft.FusedMatMul<transA=1, transB=1>(x, z)"),
    "FusedConv": ("float[N,3,M,K] x, float[4,3,3,3] w", 'com.microsoft.FusedConv<activation="Relu", pads=[1,1,1,1]>(x, w)'),
    "QLinearAdd": ("uint8[N,M] x, uint8[N,M] z, float s, uint8 p", "com.microsoft.QLinearAdd(x, s, p, z, s, p, s, p)"),
    "QLinearConcat": ("uint8[N,M] x, uint8[N,K] z, float s, uint8 p", "com.microsoft.QLinearConcat<axis=1>(s, p, x, s, p, z, s, p)"),
    "DynamicQuantizeMatMul": ("float[N,M,8] x, uint8[8,K] w, float s, uint8 p", "com.microsoft.DynamicQuantizeMatMul(x, w, s, p)"),
    "MultiHeadAttention": ("float[N,M,8] q, float[N,K,8] k, float[N,K,8] v", "com.microsoft.MultiHeadAttention<num_heads=2>(q, k, v)"),
    "Attention": ("float[N,M,8] x, float[8,24] w, float[24] b", "com.microsoft.Attention<num_heads=2>(x, w, b)"),
}


@pytest.mark.parametrize("name", CONTRIB)
def test_operators_of_onnx_runtime_are_known(name: str) -> None:
    inputs, call = CONTRIB[name]
    model = inferred(f"g ({inputs}) => (float y) {{ y = {call} }}")
    made = value_of(model, "y")
    assert made.shape is not None and not any(map(shapes.is_ours, made.shape))
    model.graph.outputs[0].type = made.type
    for sizes in ({"N": 2, "M": 5, "K": 4}, {"N": 1, "M": 3, "K": 3}):
        feeds = feeds_for(model, sizes)
        assert_shapes_hold(model, {key: np.ones_like(array) if array.ndim == 0 else array for key, array in feeds.items()})


@pytest.mark.parametrize(("name", "exporter"), [("bert", "dynamo"), ("bert", "torchscript"), ("gpt2", "dynamo"), ("llama", "dynamo")])
def test_exported_transformers_have_the_shapes_inferred(name: str, exporter: str, tmp_path: Path) -> None:
    _assert_export_holds(name, exporter, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "exporter"), [(tiny.name, exporter) for tiny in FAMILIES for exporter in tiny.exporters])
def test_every_exported_family_has_the_shapes_inferred(name: str, exporter: str, tmp_path: Path) -> None:
    _assert_export_holds(name, exporter, tmp_path)


def _assert_export_holds(name: str, exporter: str, folder: Path) -> None:
    tiny = find_tiny(name)
    model = ir.load(tiny.export(folder, exporter, optimize=False))  # type: ignore[arg-type]
    bind_opsets(model)
    shapes.infer_shapes(model)
    (output,) = model.graph.outputs
    assert not any(map(shapes.is_ours, output.shape or ()))
    wanted = {value.name for value in model.graph.inputs}
    for feeds in tiny.feeds(4):
        assert_shapes_hold(model, {key: array for key, array in feeds.items() if key in wanted})


@pytest.mark.shared
def test_the_real_models_have_the_shapes_inferred(shared: Path, subtests: Callable[..., object]) -> None:
    for path in sorted((shared / "models").glob("*.onnx")):
        model = ir.load(path)
        bind_opsets(model)
        shapes.infer_shapes(model)
        sizes = {"height": 65, "width": 48, "batch": 2}
        if path.stem == "silero_vad":
            feeds = {"input": np.zeros((1, 512), np.float32), "state": np.zeros((2, 1, 128), np.float32), "sr": np.array(16000)}
        else:
            feeds = feeds_for(model, sizes)
        with subtests.test(path.stem):
            assert_shapes_hold(model, feeds)
