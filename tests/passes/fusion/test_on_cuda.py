"""What a GPU's kernels take: half precision too, and some that a CPU has not. They run here through casts that ONNX Runtime puts around them."""

import numpy as np
import onnx_ir as ir
import pytest

from graphwright.backends.ort.kernels import cpu_target, cuda_target
from graphwright.backends.ort.reference import open_reference
from graphwright.compiler.core.graph import bind_opsets
from graphwright.compiler.core.passes import Context
from graphwright.compiler.core.shapes import infer_shapes
from graphwright.passes.fusion.fuse import Fuse

HEADER = '<ir_version: 10, opset_import: ["" : 23, "com.microsoft" : 1]>\n'
ROWS = "float16[2,4,8] x, float16[2,4,8] r"
NORM = "float16[8] s, float16[8] t"


def parsed(text):
    """The model, its inputs in capital letters turned into weights."""
    model = ir.from_onnx_text(HEADER + text)
    for place, value in enumerate(list(model.graph.inputs)):
        if value.name.isupper():
            model.graph.inputs.remove(value)
            content = np.random.default_rng(place).normal(size=list(value.shape)) / 2
            value.const_value = ir.tensor(content.astype(value.dtype.numpy()), name=value.name)
            model.graph.register_initializer(value)
    bind_opsets(model)
    infer_shapes(model)
    return model


def fused(text, target=None):
    """The operators after fusion."""
    model = parsed(text)
    Fuse().run(model, Context(target or cuda_target()))
    return [node.op_type for node in model.graph]


def feeds_of(model, seed=0):
    rng = np.random.default_rng(seed)
    return {value.name: rng.normal(size=list(value.shape)).astype(value.dtype.numpy()) for value in model.graph.inputs}


def run(model, feeds):
    return list(open_reference(model).run(feeds).values())


FUSIONS = [
    ("BiasGelu", "g (float16[2,8] x, float16[8] B) => (float16[2,8] y) { a = Add(x, B) y = Gelu(a) }"),
    ("SkipLayerNormalization", f"g ({ROWS}, {NORM}) => (float16[2,4,8] y) {{ a = Add(x, r) y = LayerNormalization(a, s, t) }}"),
    ("SkipLayerNormalization", f"g ({ROWS}, {NORM}) => (float16[2,4,8] y, float16[2,4,8] a) {{ a = Add(x, r) y = LayerNormalization(a, s, t) }}"),
    ("SkipSimplifiedLayerNormalization", f"g ({ROWS}, float16[8] s) => (float16[2,4,8] y) {{ a = Add(x, r) y = RMSNormalization(a, s) }}"),
    ("FastGelu", 'g (float16[2,8] x) => (float16[2,8] y) { y = Gelu<approximate="tanh">(x) }'),
    ("QuickGelu", "g (float16[2,8] x) => (float16[2,8] y) { s = Sigmoid(x) y = Mul(x, s) }"),
    ("FusedMatMul", "g (float16[2,4,8] x, float16[2,5,8] z) => (float16[2,4,5] y) { t = Transpose<perm=[0,2,1]>(z) y = MatMul(x, t) }"),
    (
        "MultiHeadAttention",
        "g (float16[2,3,8] q, float16[2,5,8] k, float16[2,5,8] v, float16[2,1,3,5] mask) => (float16[2,3,8] y)"
        " { y = Attention<scale=0.5, q_num_heads=2, kv_num_heads=2>(q, k, v, mask) }",
    ),
    (
        "GroupQueryAttention",
        "g (float16[2,3,32] q, float16[2,3,16] k, float16[2,3,16] v) => (float16[2,3,32] y)"
        " { y = Attention<is_causal=1, q_num_heads=4, kv_num_heads=2>(q, k, v) }",
    ),
]


@pytest.mark.parametrize(("kernel", "text"), FUSIONS, ids=[f"{kernel}-{place}" for place, (kernel, _) in enumerate(FUSIONS)])
def test_half_precision_is_fused_for_a_gpu_and_computes_the_same(kernel, text):
    before, model = parsed(text), parsed(text)
    Fuse().run(model, Context(cuda_target()))
    assert kernel in [node.op_type for node in model.graph]
    feeds = feeds_of(before)
    for old, new in zip(run(before, feeds), run(model, feeds), strict=True):
        np.testing.assert_allclose(new.astype(np.float32), old.astype(np.float32), rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize(("kernel", "text"), FUSIONS, ids=[f"{kernel}-{place}" for place, (kernel, _) in enumerate(FUSIONS)])
def test_half_precision_is_left_alone_for_a_cpu(kernel, text):
    model = parsed(text)
    Fuse().run(model, Context(cpu_target()))
    assert kernel not in [node.op_type for node in model.graph]


def test_a_norm_of_a_sum_is_fused_on_a_gpu_and_not_on_a_cpu_where_that_is_slower():
    text = f"g ({ROWS}, {NORM}) => (float16[2,4,8] y) {{ a = Add(x, r) y = LayerNormalization(a, s, t) }}".replace("float16", "float")
    assert fused(text) == ["SkipLayerNormalization"]
    assert fused(text, cpu_target()) == ["Add", "LayerNormalization"]


def test_projections_of_one_tensor_become_one_packed_kernel_in_half_precision():
    text = (
        "g (float16[2,3,8] x, float16[8,8] A, float16[8,8] B, float16[8,8] C) => (float16[2,3,8] y)"
        " { q = MatMul(x, A) k = MatMul(x, B) v = MatMul(x, C) y = Attention<q_num_heads=2, kv_num_heads=2>(q, k, v) }"
    )
    before, model = parsed(text), parsed(text)
    Fuse().run(model, Context(cuda_target()))
    nodes = list(model.graph)
    assert [(node.domain, node.op_type) for node in nodes] == [("com.microsoft", "Attention")]
    assert nodes[0].inputs[1].dtype is ir.DataType.FLOAT16 and list(nodes[0].inputs[1].shape) == [8, 24]
    feeds = feeds_of(before)
    np.testing.assert_allclose(run(model, feeds)[0].astype(float), run(before, feeds)[0].astype(float), rtol=2e-2, atol=2e-2)


def test_a_gpus_convolution_takes_relu_in_single_precision_and_nothing_else():
    conv = "g ({0}[1,1,3,3] x, {0}[2,1,1,1] w) => ({0}[1,2,3,3] y) {{ c = Conv(x, w) y = {1}(c) }}"
    assert fused(conv.format("float", "Relu")) == ["FusedConv"]
    assert fused(conv.format("float", "Sigmoid")) == ["Conv", "Sigmoid"]
    assert fused(conv.format("float16", "Relu")) == ["Conv", "Relu"]
    assert fused(conv.format("float", "Sigmoid"), cpu_target()) == ["FusedConv"]


def test_what_only_a_cpu_has_is_not_put_into_a_model_for_a_gpu():
    text = "g (float[4,2] x, float[2,3] w, float[3] b) => (float[4,3] y) { c = Gemm(x, w, b) y = Relu(c) }"
    assert "FusedGemm" not in fused(text) and "FusedGemm" in fused(text, cpu_target())
