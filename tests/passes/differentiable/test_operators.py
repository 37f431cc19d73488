"""Each operator computes in torch what ONNX Runtime, or ONNX's own reference, computes; and its gradient is right."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnx.parser
import onnx.reference
import onnx_ir as ir
import pytest

from graphwright.compiler.core.errors import TargetError
from graphwright.passes.differentiable.graph import FAMILIES, TorchGraph

torch = pytest.importorskip("torch")

Shape = tuple[int, ...]

ONE = (
    "Sinh Cosh Asinh Neg Abs Exp Sin Cos Tan Atan Erf Floor Ceil Round Sign Relu Sigmoid Tanh Softplus Softsign Mish HardSwish Elu Celu Selu LeakyRelu "
    "HardSigmoid Identity"
)
TWO = "Add Sub Mul Div Max Min Sum Mean"
REDUCTIONS = "ReduceSum ReduceMean ReduceMax ReduceMin ReduceProd ReduceL1 ReduceL2 ReduceSumSquare ReduceLogSumExp"

LENGTHS = np.array([4, 2], np.int32)


def recurrent(gates: int, way: str) -> dict[str, Shape | np.ndarray]:
    """Inputs of a recurrent layer with 3 states over 4 steps of 5 numbers, 2 at once."""
    directions = 2 if way == "bidirectional" else 1
    return {"x": (4, 2, 5), "w": (directions, gates * 3, 5), "r": (directions, gates * 3, 3), "b": (directions, 2 * gates * 3)}


CASES: list[tuple[str, dict[str, Shape | np.ndarray]]] = [
    *((f"y = {name}(x)", {"x": (3, 4)}) for name in ONE.split()),
    *((f"y = {name}(x, z)", {"x": (2, 3, 4), "z": (3, 1)}) for name in TWO.split()),
    *((f"y = {name}<keepdims = 0>(x, axes)", {"x": (2, 3, 4), "axes": np.array([0, -1])}) for name in REDUCTIONS.split()),
    ("a = Tanh(x) b = Asin(a) c = Acos(a) d = Atanh(a) e = Cosh(x) f = Acosh(e) y = Sum(b, c, d, f)", {"x": (3, 4)}),
    ("a = Shrink<lambd = 0.3, bias = 0.1>(x) b = ThresholdedRelu<alpha = 0.2>(x) y = Add(a, b)", {"x": (3, 4)}),
    ("y = LRN<size = 3, alpha = 0.5, beta = 0.6, bias = 1.5>(x)", {"x": (2, 6, 3, 3)}),
    ("y = OneHot<axis = 1>(i, d, v)", {"i": np.array([[0, -1], [2, 7]]), "d": np.array(4), "v": np.array([-1, 3], np.float32)}),
    ("y = ReduceSum(x)", {"x": (2, 3)}),
    ("y = ReduceMean<noop_with_empty_axes = 1>(x)", {"x": (2, 3)}),
    ("a = Abs(x) b = Sqrt(a) c = Log(a) d = Reciprocal(a) e = Add(b, c) y = Add(d, e)", {"x": (3, 3)}),
    ("a = Abs(x) b = ReduceLogSum(a, axes) y = Pow(b, p)", {"x": (3, 3), "axes": np.array([1]), "p": np.array(1.5, np.float32)}),
    ("y = Mod<fmod = 1>(x, z)", {"x": (3, 4), "z": (3, 4)}),
    ("i = Div(n, m) j = Mod(n, m) k = Add(i, j) y = Cast<to = 1>(k)", {"n": np.array([-7, 7, -8]), "m": np.array([2, -2, 3])}),
    ("y = Clip(x, low, high)", {"x": (5, 5), "low": np.array(-0.3, np.float32), "high": np.array(0.4, np.float32)}),
    ("y = PRelu(x, s)", {"x": (2, 3, 4), "s": (3, 1)}),
    ('y = Gelu<approximate = "tanh">(x)', {"x": (4, 4)}),
    ("y = Gelu(x)", {"x": (4, 4)}),
    ("b = Less(x, z) c = Greater(x, z) d = Xor(b, c) e = Not(d) f = Or(e, b) y = Where(f, x, z)", {"x": (4, 4), "z": (4,)}),
    ("b = LessOrEqual(x, z) c = GreaterOrEqual(x, z) d = And(b, c) e = Equal(x, z) f = Or(d, e) y = Cast<to = 1>(f)", {"x": (4, 4), "z": (4,)}),
    ("a = Div(x, x) b = IsNaN(a) y = CastLike(b, x)", {"x": np.array([0, 1, -2], np.float32)}),
    ("a = Div(x, z) b = IsInf<detect_negative = 0>(a) y = CastLike(b, x)", {"x": np.array([0, 1, -2], np.float32), "z": np.zeros(3, np.float32)}),
    ("y = MatMul(x, z)", {"x": (2, 1, 3, 4), "z": (5, 4, 2)}),
    ("y = Gemm<alpha = 0.5, beta = 2.0, transA = 1, transB = 1>(x, z, c)", {"x": (4, 3), "z": (5, 4), "c": (5,)}),
    ('y = Einsum<equation = "bij,bkj->bik">(x, z)', {"x": (2, 3, 4), "z": (2, 5, 4)}),
    ("y = Softmax<axis = 1>(x)", {"x": (2, 3, 4)}),
    ("y = LogSoftmax(x)", {"x": (2, 3, 4)}),
    ("i = ArgMax<axis = 1, keepdims = 0>(x) j = ArgMin<axis = 1, keepdims = 0>(x) k = Sub(i, j) y = Cast<to = 1>(k)", {"x": (2, 5, 3)}),
    ("y = CumSum<reverse = 1, exclusive = 1>(x, a)", {"x": (2, 5), "a": np.array(1)}),
    ("y, i = TopK<largest = 0>(x, k)", {"x": (3, 7), "k": np.array([3])}),
    ("y = BatchNormalization(x, s, b, m, v)", {"x": (2, 3, 4, 5), "s": (3,), "b": (3,), "m": (3,), "v": np.array([0.5, 1, 2], np.float32)}),
    ("y = LayerNormalization<axis = -2, epsilon = 0.01>(x, s, b)", {"x": (2, 3, 4), "s": (3, 4), "b": (3, 4)}),
    ("y = RMSNormalization(x, s)", {"x": (2, 3, 4), "s": (4,)}),
    ("y = GroupNormalization<num_groups = 2>(x, s, b)", {"x": (2, 4, 3, 3), "s": (4,), "b": (4,)}),
    ("y = InstanceNormalization(x, s, b)", {"x": (2, 4, 3, 3), "s": (4,), "b": (4,)}),
    ("y = LpNormalization<p = 1, axis = 1>(x)", {"x": (2, 4, 3)}),
    ("y = Conv<pads = [1, 0, 2, 1], strides = [2, 1], dilations = [1, 2], group = 2>(x, w, b)", {"x": (2, 4, 9, 8), "w": (6, 2, 3, 2), "b": (6,)}),
    ('y = Conv<auto_pad = "SAME_LOWER", strides = [2]>(x, w)', {"x": (1, 2, 8), "w": (3, 2, 4)}),
    ('y = Conv<auto_pad = "SAME_UPPER", strides = [2, 2]>(x, w)', {"x": (1, 2, 7, 8), "w": (3, 2, 3, 4)}),
    (
        "y = ConvTranspose<pads = [1, 0, 0, 2], strides = [2, 3], output_padding = [1, 0], group = 2>(x, w, b)",
        {"x": (1, 4, 5, 4), "w": (4, 3, 3, 4), "b": (6,)},
    ),
    ("y = MaxPool<kernel_shape = [3, 2], pads = [1, 0, 0, 1], strides = [2, 2], ceil_mode = 1>(x)", {"x": (1, 2, 8, 7)}),
    ("y = MaxPool<kernel_shape = [2], dilations = [3], strides = [2]>(x)", {"x": (1, 2, 11)}),
    ("y = AveragePool<kernel_shape = [3, 3], pads = [1, 1, 1, 1], strides = [2, 2]>(x)", {"x": (1, 2, 7, 9)}),
    ("y = AveragePool<kernel_shape = [3, 3], pads = [1, 1, 0, 1], strides = [2, 2], count_include_pad = 1>(x)", {"x": (1, 2, 7, 9)}),
    ("y = AveragePool<kernel_shape = [3, 3], strides = [2, 2], ceil_mode = 1>(x)", {"x": (1, 2, 8, 8)}),
    ("a = GlobalAveragePool(x) b = GlobalMaxPool(x) y = Add(a, b)", {"x": (2, 3, 4, 5)}),
    ("s = Shape<start = 1>(x) t = ConstantOfShape(s) n = Size(x) m = Cast<to = 1>(n) u = Add(t, m) y = Add(x, u)", {"x": (2, 3)}),
    ("r = Range(a, b, c) f = Cast<to = 1>(r) y = Mul(f, x)", {"a": np.array(3), "b": np.array(-3), "c": np.array(-2), "x": (1,)}),
    ("y = Reshape(x, s)", {"x": (2, 3, 4), "s": np.array([0, -1, 2])}),
    ("y = Flatten<axis = 2>(x)", {"x": (2, 3, 4)}),
    ("a = Squeeze(x, p) y = Unsqueeze(a, q)", {"x": (2, 1, 3, 1), "p": np.array([-1]), "q": np.array([0, 3])}),
    ("a = Expand(x, s) y = Tile(a, t)", {"x": (3, 1), "s": np.array([2, 1, 4]), "t": np.array([1, 2, 3])}),
    ("y = Transpose<perm = [2, 0, 1]>(x)", {"x": (2, 3, 4)}),
    ("y = Transpose(x)", {"x": (2, 3, 4)}),
    ("a, b = Split<axis = 1>(x, s) y = Concat<axis = -1>(b, a)", {"x": (2, 5), "s": np.array([1, 4])}),
    ("a, b = Split<axis = 1, num_outputs = 2>(x) y = Concat<axis = 1>(b, a)", {"x": (2, 5)}),
    (
        "y = Slice(x, s, e, a, t)",
        {"x": (6, 7, 5), "s": np.array([-1, 1, 9]), "e": np.array([-99, 99, 12]), "a": np.array([0, 1, 2]), "t": np.array([-2, 3, 1])},
    ),
    ("y = Slice(x, s, e)", {"x": (6, 4), "s": np.array([1]), "e": np.array([-2])}),
    ("y = Gather<axis = 1>(x, i)", {"x": (2, 5, 3), "i": np.array([[0, -1], [2, 2]])}),
    ("y = Gather(x, i)", {"x": (5,), "i": np.array(-2)}),
    ("y = GatherElements<axis = 1>(x, i)", {"x": (2, 3), "i": np.array([[0, -1], [2, 2]])}),
    ("y = GatherND(x, i)", {"x": (2, 3, 4), "i": np.array([[0, 2], [1, -1]])}),
    ('y = ScatterND<reduction = "add">(x, i, u)', {"x": (4, 3), "i": np.array([[1], [1], [3]]), "u": (3, 3)}),
    ("y = ScatterElements<axis = 1>(x, i, u)", {"x": (2, 4), "i": np.array([[0, -1], [2, 1]]), "u": (2, 2)}),
    ("y = Pad(x, p, v)", {"x": (2, 3, 4), "p": np.array([0, 1, -1, 1, 0, 2]), "v": np.array(0.5, np.float32)}),
    ('y = Pad<mode = "reflect">(x, p)', {"x": (2, 3, 4), "p": np.array([0, 1, 2, 0, 2, 1])}),
    ('y = Pad<mode = "edge">(x, p, , a)', {"x": (2, 3, 4), "p": np.array([1, 2]), "a": np.array([1])}),
    ('a = DepthToSpace<blocksize = 2, mode = "CRD">(x) b = SpaceToDepth<blocksize = 2>(a) y = DepthToSpace<blocksize = 2>(b)', {"x": (1, 8, 2, 3)}),
    ("y = Trilu<upper = 0>(x, k)", {"x": (2, 4, 4), "k": np.array(-1)}),
    ("y, m = Dropout(x)", {"x": (2, 3)}),
    ("y = Attention<q_num_heads = 4, kv_num_heads = 2, is_causal = 1>(q, k, v)", {"q": (2, 5, 12), "k": (2, 5, 6), "v": (2, 5, 8)}),
    ("y = Attention<scale = 0.3, softcap = 2.0>(q, k, v, m)", {"q": (2, 3, 4, 6), "k": (2, 3, 5, 6), "v": (2, 3, 5, 6), "m": (4, 5)}),
    ("y = RotaryEmbedding(x, c, s, p)", {"x": (2, 3, 4, 8), "c": (10, 4), "s": (10, 4), "p": np.array([[0, 1, 2, 3], [5, 4, 3, 2]])}),
    ("y = RotaryEmbedding<interleaved = 1, num_heads = 2, rotary_embedding_dim = 4>(x, c, s)", {"x": (2, 3, 12), "c": (2, 3, 2), "s": (2, 3, 2)}),
    (
        "q = QuantizeLinear<axis = 0>(x, s, z) y = DequantizeLinear<axis = 0>(q, s, z)",
        {"x": (2, 5), "s": np.array([0.1, 0.02], np.float32), "z": np.array([3, -4], np.int8)},
    ),
    ("q = QuantizeLinear(x, s) y = DequantizeLinear(q, s)", {"x": (2, 5), "s": np.array(0.05, np.float32)}),
    (
        "f = DequantizeLinear<axis = 0, block_size = 2>(w, s) y = MatMul(x, f)",
        {"x": (2, 3), "w": np.array([[-128, 4], [7, 1], [50, -3]], np.int8), "s": np.array([[0.1, 0.2], [0.3, 0.4]], np.float32)},
    ),
    *((f"y, a = RNN<hidden_size = 3, direction = \"{way}\">(x, w, r, b)", recurrent(1, way)) for way in ("forward", "reverse", "bidirectional")),
    *((f"y, a = GRU<hidden_size = 3, linear_before_reset = {reset}>(x, w, r, b)", recurrent(3, "forward")) for reset in (0, 1)),
    ("a, y = GRU<hidden_size = 3, direction = \"bidirectional\">(x, w, r, b, l, h)", {**recurrent(3, "bidirectional"), "l": LENGTHS, "h": (2, 2, 3)}),
    (
        'a, b1, y = LSTM<hidden_size = 3, direction = "bidirectional">(x, w, r, b, l, h, c)',
        {**recurrent(4, "bidirectional"), "l": LENGTHS, "h": (2, 2, 3), "c": (2, 2, 3)},
    ),
    ("y, a = LSTM<hidden_size = 3, direction = \"reverse\">(x, w, r, b, l)", {**recurrent(4, "reverse"), "l": LENGTHS}),
    ('y = RNN<hidden_size = 3, activations = ["Relu"]>(x, w, r)', {name: item for name, item in recurrent(1, "forward").items() if name != "b"}),
    *((f'y = Resize<mode = "{mode}", coordinate_transformation_mode = "{where}">(x, , s)', {"x": (1, 2, 5, 6), "s": np.array([1, 1, 2.4, 0.5], np.float32)})
      for mode in ("nearest", "linear", "cubic") for where in ("half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel", "half_pixel_symmetric")),
    *((f'y = Resize<mode = "nearest", nearest_mode = "{how}">(x, , , t)', {"x": (1, 2, 5, 6), "t": np.array([1, 2, 8, 9])})
      for how in ("floor", "ceil", "round_prefer_ceil", "round_prefer_floor")),
    ('y = Resize<mode = "cubic", exclude_outside = 1, cubic_coeff_a = -0.5>(x, , , t)', {"x": (1, 2, 5, 6), "t": np.array([1, 2, 8, 9])}),
    ('y = Resize<mode = "linear", axes = [2, 3], keep_aspect_ratio_policy = "not_larger">(x, , , t)', {"x": (1, 2, 5, 6), "t": np.array([9, 9])}),
    ("b = Greater(s, z) y = If(b) <then_branch = one () => (float[2, 3] p) { p = Add(x, w) }, else_branch = other () => (float[2, 3] q) { q = Mul(x, w) }>",
     {"x": (2, 3), "w": (2, 3), "s": np.array(1, np.float32), "z": np.array(2, np.float32)}),
]  # fmt: skip
TYPES = {np.dtype(np.float32): "float", np.dtype(np.int64): "int64", np.dtype(np.int8): "int8", np.dtype(np.int32): "int32"}


def arrays(inputs: dict[str, Shape | np.ndarray]) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    return {name: random.standard_normal(item).astype(np.float32) if isinstance(item, tuple) else item for name, item in inputs.items()}


def drawn(body: str, feeds: dict[str, np.ndarray], opset: int = 23) -> onnx.ModelProto:
    heads = ", ".join(f"{TYPES[item.dtype]}[{','.join(map(str, item.shape))}] {name}" for name, item in feeds.items())
    return onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : {opset}]> piece ({heads}) => (float y) {{ {body} }}')


def expected(proto: onnx.ModelProto, feeds: dict[str, np.ndarray], run_onnx: Callable[..., dict[str, Any]]) -> np.ndarray:
    try:
        return np.asarray(run_onnx(proto, feeds)["y"])
    except Exception:  # noqa: BLE001 (the runtime has no kernel for this operator or variant)
        return np.asarray(onnx.reference.ReferenceEvaluator(proto).run(["y"], feeds)[0])


@pytest.mark.parametrize(("body", "inputs"), CASES, ids=[body for body, _ in CASES])
def test_torch_computes_the_same(body: str, inputs: dict[str, Shape | np.ndarray], run_onnx: Callable[..., dict[str, Any]]) -> None:
    feeds = arrays(inputs)
    proto = drawn(body, feeds)
    found = TorchGraph.of(ir.from_proto(proto), "cpu").numpy(feeds)["y"]
    wanted = expected(proto, feeds, run_onnx)
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted, rtol=2e-5, atol=2e-6)


def test_every_operator_is_in_a_case() -> None:
    bodies = " ".join(body for body, _ in CASES)
    names = {name for family in FAMILIES for name in family.operators()}
    absent = {name for name in names if f"= {name}<" not in bodies and f"= {name}(" not in bodies}
    assert absent == {"SimplifiedLayerNormalization", "Swish", "Upsample"}


@pytest.mark.parametrize(
    ("body", "opset", "inputs"),
    [
        ("y = Softmax(x)", 11, {"x": (2, 3, 4)}),
        ("y = Clip<min = -0.5>(x)", 6, {"x": (3, 3)}),
        ("y = Slice<axes = [1], starts = [1], ends = [-1]>(x)", 9, {"x": (2, 5)}),
        ("a = Unsqueeze<axes = [0, 2]>(x) b = Squeeze<axes = [2]>(a) y = ReduceMean<axes = [1], keepdims = 0>(b)", 11, {"x": (2, 5)}),
        ("a, b = Split<axis = 1, split = [1, 4]>(x) y = Concat<axis = 1>(b, a)", 11, {"x": (2, 5)}),
        ('y = Pad<mode = "constant", pads = [0, 1, 1, 0], value = 2.0>(x)', 9, {"x": (2, 5)}),
        ('y = Upsample<mode = "linear">(x, s)', 9, {"x": (1, 2, 3, 4), "s": np.array([1, 1, 2, 2], np.float32)}),
        ('y = Upsample<mode = "nearest", scales = [1.0, 1.0, 2.0, 3.0]>(x)', 7, {"x": (1, 2, 3, 4)}),
        ('y = Resize<mode = "nearest">(x, s)', 10, {"x": (1, 2, 3, 4), "s": np.array([1, 1, 2, 3], np.float32)}),
        ("y = GroupNormalization<num_groups = 2>(x, s, b)", 18, {"x": (2, 4, 3, 3), "s": (2,), "b": (2,)}),
    ],
    ids=lambda item: item if isinstance(item, str) else None,
)
def test_older_spellings_compute_the_same(body: str, opset: int, inputs: dict[str, Shape | np.ndarray], run_onnx: Callable[..., dict[str, Any]]) -> None:
    feeds = arrays(inputs)
    proto = drawn(body, feeds, opset)
    found = TorchGraph.of(ir.from_proto(proto), "cpu").numpy(feeds)["y"]
    np.testing.assert_allclose(found, expected(proto, feeds, run_onnx), rtol=2e-5, atol=2e-6)


SMOOTH = """
  n = LayerNormalization(x, g, h) q = MatMul(n, a) k = MatMul(n, b) v = MatMul(n, c) t = Attention<q_num_heads = 2, kv_num_heads = 2, is_causal = 1>(q, k, v)
  r = Add(x, t) m = RMSNormalization(r, g) u = MatMul(m, d) e = Gelu(u) y = MatMul(e, f)
"""


def test_gradients_of_a_transformer_block_are_those_of_finite_differences() -> None:
    shapes = {"x": (1, 3, 4), "g": (4,), "h": (4,), **dict.fromkeys("abc", (4, 4)), "d": (4, 6), "f": (6, 4)}
    feeds = arrays(shapes)
    graph = TorchGraph.of(ir.from_proto(drawn(SMOOTH, feeds)), "cpu")
    names = list(feeds)
    tensors = [torch.from_numpy(feeds[name].astype(np.float64)).requires_grad_() for name in names]
    assert torch.autograd.gradcheck(lambda *items: graph.run(dict(zip(names, items, strict=True)))["y"], tensors)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("y = NonZero(x)", "ai.onnx::NonZero cannot be differentiated here"),
        ('y = Pad<mode = "wrap">(x, p)', "the mode 'wrap' of Pad cannot"),
        ("y = ArgMax<select_last_index = 1>(x)", "the last of equal indices of ArgMax"),
    ],
)
def test_what_is_not_known_is_refused_by_name(body: str, message: str) -> None:
    feeds = arrays({"x": (2, 3), "p": np.array([0, 1, 0, 1])})
    with pytest.raises(TargetError, match=message):
        TorchGraph.of(ir.from_proto(drawn(body, feeds)), "cpu").numpy(feeds)
