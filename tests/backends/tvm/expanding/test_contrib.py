"""What is written out in standard operators computes what ONNX Runtime's own kernel does."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from graphwright.backends.ort.reference import open_reference
from graphwright.backends.tvm.expanding.contrib import EXPANSIONS
from graphwright.compiler.core.build import Build
from graphwright.compiler.core.graph import clone_model, erase, replace
from graphwright.compiler.core.names import Names
from graphwright.compiler.core.shapes import infer_shapes

LAYER = "float[2,5,8] x, float[2,5,8] s, float[8] g, float[8] h, float[8] b"
CASES = [
    ("float[1,3,6,6] x, float[4,3,3,3] w, float[4] b, float[1,4,4,4] z", 'y = com.microsoft.FusedConv<activation="Relu">(x, w, b, z)'),
    ("float[1,3,6,6] x, float[4,3,3,3] w", 'y = com.microsoft.FusedConv<activation="LeakyRelu", activation_params=[0.3], pads=[1,1,1,1]>(x, w)'),
    ("float[1,3,6,6] x, float[4,3,3,3] w", 'y = com.microsoft.FusedConv<activation="Clip", activation_params=[-0.5, 0.5], strides=[2,2]>(x, w)'),
    ("float[1,4,6,6] x, float[4,1,3,3] w, float[4] b", 'y = com.microsoft.FusedConv<activation="HardSigmoid", activation_params=[0.3, 0.4], group=4>(x, w, b)'),
    ("float[5,3] x, float[4,3] w, float[4] b", 'y = com.microsoft.FusedGemm<activation="Relu", transB=1, alpha=0.5, beta=2.0>(x, w, b)'),
    ("float[5,3] x, float[3,4] w", 'y = com.microsoft.FusedGemm<activation="LeakyRelu", activation_alpha=0.2>(x, w)'),
    ("float[2,3,5] x, float[2,3,4] w", "y = com.microsoft.FusedMatMul<transA=1, alpha=0.25>(x, w)"),
    ("float[2,3,5] x, float[2,4,5] w", "y = com.microsoft.FusedMatMul<transB=1>(x, w)"),
    ("float[2,8] x, float[8] b", "y = com.microsoft.BiasGelu(x, b)"),
    ("float[2,8] x", "y = com.microsoft.Gelu(x)"),
    ("float[2,8] x", "y = com.microsoft.QuickGelu<alpha=1.5>(x)"),
    ("float[2,8] x, float[8] b", "y = com.microsoft.FastGelu(x, b)"),
    ("float[2,8] x", "y = com.microsoft.FastGelu(x)"),
    (LAYER, "y = com.microsoft.SkipLayerNormalization<epsilon=0.01>(x, s, g, h, b)"),
    (LAYER, "y, , , t = com.microsoft.SkipLayerNormalization(x, s, g)  z = Relu(t)"),
    (LAYER, "y, , , t = com.microsoft.SkipSimplifiedLayerNormalization<epsilon=0.01>(x, s, g, b)  z = Relu(t)"),
    (
        "int32[2,5] i, int32[2,5] k, float[9,8] a, float[7,8] c, float[3,8] d, float[8] g, float[8] h",
        "y, , t = com.microsoft.EmbedLayerNormalization(i, k, a, c, d, g, h)  z = Relu(t)",
    ),
    ("float[2,5,8] q, float[2,3,8] k, float[2,3,8] v", "y = com.microsoft.MultiHeadAttention<num_heads=2>(q, k, v)"),
    ("float[2,5,8] q, float[2,3,8] k, float[2,3,4] v, float[20] b", "y = com.microsoft.MultiHeadAttention<num_heads=2, scale=0.7>(q, k, v, b)"),
    ("float[2,5,8] q, float[2,3,8] k, float[2,3,8] v, float[2,2,5,3] m", "y = com.microsoft.MultiHeadAttention<num_heads=2>(q, k, v, , , m)"),
    ("float[2,5,6] x, float[6,24] w, float[24] b", "y = com.microsoft.Attention<num_heads=2>(x, w, b)"),
    ("float[2,5,6] x, float[6,24] w, float[24] b, float[2,2,5,5] m", "y = com.microsoft.Attention<num_heads=2, scale=0.3>(x, w, b, , , m)"),
    ("float[2,5,6] x, float[6,24] w, float[24] b", "y = com.microsoft.Attention<num_heads=2, unidirectional=1>(x, w, b)"),
]


def model_of(inputs: str, body: str) -> ir.Model:
    outputs = "float[N] y, float[N] z" if "z = " in body else "float[N] y"
    text = f'<ir_version: 9, opset_import: ["" : 18, "com.microsoft" : 1]> g ({inputs}) => ({outputs}) {{ {body} }}'
    proto = onnx.parser.parse_model(text)
    for value in proto.graph.output:
        value.type.tensor_type.ClearField("shape")
    model = ir.from_proto(proto)
    infer_shapes(model)
    return model


def written_out(model: ir.Model) -> ir.Model:
    copy = clone_model(model)
    names = Names(copy)
    for node in [node for node in copy.graph if node.domain == "com.microsoft"]:
        pen = Build()
        made = EXPANSIONS[f"{node.domain}::{node.op_type}"](pen, node)
        assert made is not None, f"{node.op_type} was not written out"
        for constant in pen.constants:
            constant.name = names.fresh("constant")
            copy.graph.register_initializer(constant)
        copy.graph.insert_before(node, pen.nodes)
        for old, new in zip(node.outputs, made, strict=True):
            if new is not None:
                replace(old, new, names)
        erase(node)
    return copy


def feeds_for(model: ir.Model) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    shapes = {value.name: (value.dtype, tuple(value.shape)) for value in model.graph.inputs}
    return {
        name: rng.integers(0, 3, shape).astype(np.int32) if dtype is ir.DataType.INT32 else rng.standard_normal(shape).astype(np.float32)
        for name, (dtype, shape) in shapes.items()
    }


@pytest.mark.parametrize(("inputs", "body"), CASES, ids=[body.partition("microsoft.")[2][:48] for _, body in CASES])
def test_an_operator_written_out_computes_the_same(inputs: str, body: str) -> None:
    model = model_of(inputs, body)
    plain = written_out(model)
    assert not any(node.domain for node in plain.graph)
    feeds = feeds_for(model)
    expected, found = open_reference(model).run(feeds), open_reference(plain).run(feeds)
    assert list(found) == list(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("inputs", "body"),
    [
        ("float[3,3,5] x, float[3,5,4] w", "y = com.microsoft.FusedMatMul<transBatchA=1>(x, w)"),
        ("float[2,5,8] q, float[2,3,8] k, float[2,3,8] v, int32[2] p", "y = com.microsoft.MultiHeadAttention<num_heads=2>(q, k, v, , p)"),
        (LAYER, "t, y, v = com.microsoft.SkipLayerNormalization(x, s, g)"),
    ],
)
def test_what_our_fusions_never_write_is_refused(inputs: str, body: str) -> None:
    (node,) = model_of(inputs, body).graph
    assert EXPANSIONS[f"{node.domain}::{node.op_type}"](Build(), node) is None
