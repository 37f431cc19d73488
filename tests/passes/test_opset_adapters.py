"""Every adapter, on a model of the opset just below its step: the raised model computes what the old one did."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnxruntime.capi.onnxruntime_pybind11_state import NotImplemented as NoKernel

from graphwright.compiler.core.passes import Context
from graphwright.compiler.core.reasons import Reasons
from graphwright.compiler.core.wellformed import check
from graphwright.passes.cleanup.opset import NormaliseOpset
from graphwright.passes.cleanup.opset_adapters.climb import adapters, versions
from graphwright.passes.cleanup.opset_adapters.step import EXPERIMENTAL

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Case:
    """A model, below the step ``op`` took at ``step``, that must come through it.

    ``expected`` computes its outputs where ONNX Runtime has no kernel as old as that. ``feeds`` replaces what `_fill` would make up.
    ``rounds``: the last bits may differ (ONNX Runtime computes halves as floats and rounds where it sees fit; it fused the experiments).
    """

    op: str
    step: int
    graph: str
    expected: Callable[..., object] | None = None
    feeds: Arrays = field(default_factory=dict)
    opset: int = 0
    rounds: bool = False

    def __str__(self) -> str:
        return f"{self.op}-{self.step} {self.graph[:60]}"


def _fill(value: ir.Value, generator: np.random.Generator, special: bool) -> np.ndarray:
    """Numbers for an input: floats around 0 with zeros, infinities and NaN among them when ``special``."""
    shape = [dim if isinstance(dim, int) else 3 for dim in value.shape]
    dtype = value.dtype.numpy()
    if np.dtype(dtype).kind == "b":
        return generator.integers(0, 2, shape).astype(bool)
    if np.dtype(dtype).kind in "iu":
        return generator.integers(0, 5, shape).astype(dtype)
    content = generator.standard_normal(shape).astype(dtype)
    if special and content.size:
        flat = content.reshape(-1)
        for index, number in zip(generator.integers(0, flat.size, 5), (0.0, -0.0, np.inf, -np.inf, np.nan), strict=True):
            flat[index] = number
    return content


def _model(case: Case) -> ir.Model:
    opset = case.opset or case.step - 1
    model = ir.from_onnx_text(f'<ir_version: 8, opset_import: ["" : {opset}]> g {case.graph}')
    for value in model.graph.outputs:
        if value.shape is not None and len(value.shape) == 0:
            value.shape = None  # "float y" declares a scalar; here it stands for any shape
    return model


def unary(op: str, expected: Callable[..., object], attributes: str = "") -> Case:
    """consumed_inputs, which opset 6 dropped, on an operator of one input."""
    return Case(op, 6, f"(float[3,4] x) => (float[3,4] y) {{ y = {op}<consumed_inputs=[0]{attributes}>(x) }}", expected)


def binary(op: str, expected: Callable[..., object]) -> Case:
    """The same, on two or more operands of one shape."""
    return Case(op, 6, f"(float[3,4] a, float[3,4] b) => (float[3,4] y) {{ y = {op}<consumed_inputs=[0,0]>(a, b) }}", expected)


def broadcast(op: str, expected: Callable[..., object], dtype: str = "float", result: str = "") -> list[Case]:
    """``axis`` and ``broadcast``, which opset 7 dropped: in the middle, at the start, at the end, of one element, absent."""
    made = result or dtype
    shapes = (("3,4", "<broadcast=1, axis=1>", (3, 4, 1)), ("2", "<broadcast=1, axis=0>", (2, 1, 1, 1)), ("4,5", "<broadcast=1>", (4, 5)))
    shapes += (("5", "<broadcast=1, axis=3>", (5,)), ("1,1", "<broadcast=1, axis=2>", (1, 1)), ("2,3,4,5", "", (2, 3, 4, 5)))
    return [
        Case(
            op,
            7,
            f"({dtype}[2,3,4,5] a, {dtype}[{shape}] b) => ({made}[2,3,4,5] y) {{ y = {op}{attributes}(a, b) }}",
            lambda a, b, aligned=aligned: expected(a, b.reshape(aligned)),
        )
        for shape, attributes, aligned in shapes
    ]


def reduction(op: str, step: int) -> list[Case]:
    """``axes`` as an attribute: some, from the end, none, an empty list."""
    opset = step - 1
    return [
        Case(op, step, f"(float[2,3,4] x) => (float y) {{ y = {op}<axes=[1]>(x) }}"),
        Case(op, step, f"(float[2,3,4] x) => (float y) {{ y = {op}<axes=[0,-1], keepdims=0>(x) }}", opset=max(opset, 11)),
        Case(op, step, f"(float[2,3,4] x) => (float y) {{ y = {op}<keepdims=0>(x) }}"),
        Case(op, step, f"(float[2,3,4] x) => (float y) {{ y = {op}(x) }}", opset=7),
    ]


def matrixwise(op: str) -> list[Case]:
    """Softmax and its kin over several axes, over the last, over one followed by axes of one element, and of unknown rank."""
    return [
        Case(op, 13, f"(float[2,3,4] x) => (float[2,3,4] y) {{ y = {op}(x) }}"),
        Case(op, 13, f"(float[2,3,4] x) => (float[2,3,4] y) {{ y = {op}<axis=0>(x) }}"),
        Case(op, 13, f"(float[2,3,4] x) => (float[2,3,4] y) {{ y = {op}<axis=2>(x) }}"),
        Case(op, 13, f"(float[2,3,4] x) => (float[2,3,4] y) {{ y = {op}<axis=-1>(x) }}"),
        Case(op, 13, f"(float[2,3,4] x) => (float[2,3,4] y) {{ y = {op}<axis=-2>(x) }}"),
        Case(op, 13, f"(float[2,7,1,1] x) => (float[2,7,1,1] y) {{ y = {op}(x) }}", opset=7),
        Case(op, 13, f"(float[N,M,1] x) => (float[N,M,1] y) {{ y = {op}(x) }}"),
        Case(op, 13, f"(float[N,M,K] x) => (float[N,M,K] y) {{ y = {op}(x) }}"),
        Case(op, 13, f"(float[2,3,4] x, int64[R] s) => (float y) {{ z = Reshape(x, s) y = {op}(z) }}", feeds={"s": np.array([3, 2, 4])}),
        Case(op, 13, f"(float[2,3,0] x) => (float[2,3,0] y) {{ y = {op}(x) }}"),
    ]


def _legacy() -> list[Case]:
    def normalised(x: np.ndarray) -> np.ndarray:
        return (x - x.mean((2, 3), keepdims=True)) / np.sqrt(x.var((2, 3), keepdims=True) + 1e-5)

    return [
        unary("Abs", np.abs),
        unary("Ceil", np.ceil),
        unary("Elu", lambda x: np.where(x >= 0, x, 2 * np.expm1(x)), ", alpha=2.0"),
        unary("Exp", np.exp),
        unary("Floor", np.floor),
        unary("HardSigmoid", lambda x: np.clip(0.2 * x + 0.5, 0, 1)),
        unary("LeakyRelu", lambda x: np.where(x >= 0, x, 0.1 * x), ", alpha=0.1"),
        unary("Log", np.log),
        unary("Neg", np.negative),
        unary("Reciprocal", np.reciprocal),
        unary("Relu", lambda x: np.maximum(x, 0)),
        unary("Selu", lambda x: 1.0507 * np.where(x > 0, x, 1.6732 * np.expm1(x))),
        unary("Selu", lambda x: 3 * np.where(x > 0, x, 2 * np.expm1(x)), ", alpha=2.0, gamma=3.0"),
        unary("Sigmoid", lambda x: 1 / (1 + np.exp(-x))),
        unary("Sqrt", np.sqrt),
        unary("Tanh", np.tanh),
        unary("Clip", lambda x: np.clip(x, -0.5, 0.25), ", min=-0.5, max=0.25"),
        unary("Dropout", lambda x: x, ", is_test=1, ratio=0.3"),
        *(binary(op, found) for op, found in (("Add", np.add), ("Sub", np.subtract), ("Mul", np.multiply), ("Div", np.divide))),
        *(binary(op, found) for op, found in (("Max", np.maximum), ("Min", np.minimum), ("Sum", np.add))),
        binary("Mean", lambda a, b: (a + b) / 2),
        binary("PRelu", lambda a, b: np.where(a >= 0, a, a * b)),
        Case(
            "InstanceNormalization",
            6,
            "(float[2,1,3,4] x) => (float[2,1,3,4] y) <float[1] s={1}, float[1] b={0}> { y = InstanceNormalization(x, s, b) }",
            normalised,
        ),
        Case("Concat", 4, "(float[2,3] a, float[2,4] b) => (float y) { y = Concat(a, b) }", lambda a, b: np.concatenate([a, b], 1)),
        Case("Concat", 4, "(float[2,3] a, float[1,3] b) => (float y) { y = Concat<axis=0>(a, b) }", lambda a, b: np.concatenate([a, b], 0)),
        Case("Cast", 6, '(float[3] x) => (double[3] y) { y = Cast<to="DOUBLE">(x) }', lambda x: x.astype(np.float64)),
        Case("GlobalLpPool", 2, "(float[2,3,4] x) => (float[2,3,1] y) { y = GlobalLpPool<p=1.0>(x) }", lambda x: np.abs(x).sum(2, keepdims=True)),
        Case("LpPool", 2, "(float[1,1,4] x) => (float y) { y = LpPool<kernel_shape=[2]>(x) }", lambda x: np.hypot(x[..., :-1], x[..., 1:])),
        Case(
            "Scatter",
            11,
            "(float[3,4] x, int64[2,2] i, float[2,2] u) => (float[3,4] y) { y = Scatter<axis=1>(x, i, u) }",
            feeds={"i": np.array([[0, 2], [3, 1]])},
        ),
        *(
            Case("GridSample", 20, f"(float[1,2,4,5] x, float[1,3,3,2] g) => (float y) {{ y = GridSample{mode}(x, g) }}")
            for mode in ("", '<mode="bilinear">', '<mode="bicubic">', '<mode="nearest", align_corners=1>')
        ),
        Case(
            "RoiAlign",
            16,
            "(float[1,2,6,6] x, float[2,4] r, int64[2] b) => (float y) { y = RoiAlign<output_height=2, output_width=2, sampling_ratio=2>(x, r, b) }",
            feeds={"r": np.array([[0, 0, 4, 4], [1, 2, 5, 3]], np.float32), "b": np.array([0, 0])},
        ),
    ]


def _recurrent() -> list[Case]:
    gates = {"RNN": 1, "GRU": 3, "LSTM": 4}
    cases = []
    for op, count in gates.items():
        rows = count * 2
        weights = f"float[1,{rows},3] w, float[1,{rows},2] r, float[1,{2 * rows}] b"
        text = f"(float[4,2,3] x, {weights}) => (float y, float h) {{ y, h = {op}<hidden_size=2, output_sequence=1>(x, w, r, b) }}"
        cases.append(Case(op, 7, text, {"RNN": _rnn, "GRU": _gru, "LSTM": _lstm}[op]))
    text = "(float[4,2,3] x, float[1,6,3] w, float[1,6,2] r, float[1,12] b) => (float y, float h) "
    cases.append(Case("GRU", 3, text + '{ y, h = GRU<hidden_size=2, direction="foward">(x, w, r, b) }', lambda x, w, r, b: _gru(x, w, r, b)))
    return cases


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def _rnn(x: np.ndarray, w: np.ndarray, r: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    state, states = np.zeros((2, 2), np.float32), []
    for now in x:
        state = np.tanh(now @ w[0].T + state @ r[0].T + b[0, :2] + b[0, 2:])
        states.append(state)
    return np.array(states)[:, None], state[None]


def _gru(x: np.ndarray, w: np.ndarray, r: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    state, states = np.zeros((2, 2), np.float32), []
    (wz, wr, wh), (rz, rr, rh), (bz, br, bh, cz, cr, ch) = np.split(w[0], 3), np.split(r[0], 3), np.split(b[0], 6)
    for now in x:
        update = _sigmoid(now @ wz.T + state @ rz.T + bz + cz)
        reset = _sigmoid(now @ wr.T + state @ rr.T + br + cr)
        new = np.tanh(now @ wh.T + (reset * state) @ rh.T + ch + bh)
        state = (1 - update) * new + update * state
        states.append(state)
    return np.array(states)[:, None], state[None]


def _lstm(x: np.ndarray, w: np.ndarray, r: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    state, cell, states = np.zeros((2, 2), np.float32), np.zeros((2, 2), np.float32), []
    for now in x:
        gates = now @ w[0].T + state @ r[0].T + b[0, :8] + b[0, 8:]
        i, o, f, c = (gates[:, start : start + 2] for start in range(0, 8, 2))
        cell = _sigmoid(f) * cell + _sigmoid(i) * np.tanh(c)
        state = _sigmoid(o) * np.tanh(cell)
        states.append(state)
    return np.array(states)[:, None], state[None]


def _broadcasts() -> list[Case]:
    numbers = {"Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Div": np.divide, "Pow": np.power}
    tests = {"Greater": np.greater, "Less": np.less}
    logic = {"And": np.logical_and, "Or": np.logical_or, "Xor": np.logical_xor}
    cases = [case for op, found in numbers.items() for case in broadcast(op, found)]
    cases += [case for op, found in tests.items() for case in broadcast(op, found, result="bool")]
    cases += [case for op, found in logic.items() for case in broadcast(op, found, "bool")]
    cases += broadcast("Equal", np.equal, "int64", "bool")
    cases += [
        Case(
            "Gemm",
            7,
            "(float[2,3] a, float[3,4] b, float[4] c) => (float[2,4] y) { y = Gemm<broadcast=1, beta=0.5>(a, b, c) }",
            lambda a, b, c: a @ b + 0.5 * c,
        ),
        Case(
            "Gemm", 7, "(float[3,2] a, float[4,3] b, float[2,4] c) => (float[2,4] y) { y = Gemm<transA=1, transB=1>(a, b, c) }", lambda a, b, c: a.T @ b.T + c
        ),
        Case("PRelu", 7, "(float[2,3,4,5] x, float[3] s) => (float[2,3,4,5] y) { y = PRelu(x, s) }", lambda x, s: np.where(x >= 0, x, x * s.reshape(3, 1, 1))),
        Case("PRelu", 7, "(float[2,3] x, float[3] s) => (float[2,3] y) { y = PRelu(x, s) }", lambda x, s: np.where(x >= 0, x, x * s)),
        Case("PRelu", 7, "(float[2,3,4] x, float[1] s) => (float[2,3,4] y) { y = PRelu(x, s) }", lambda x, s: np.where(x >= 0, x, x * s)),
    ]
    return cases


def _inputs() -> list[Case]:
    squeezed = "(float[2,1,3,1] x) => (float y) "
    return [
        Case("Squeeze", 13, squeezed + "{ y = Squeeze<axes=[1]>(x) }"),
        Case("Squeeze", 13, squeezed + "{ y = Squeeze<axes=[-1,1]>(x) }"),
        Case("Squeeze", 13, squeezed + "{ y = Squeeze(x) }"),
        Case("Unsqueeze", 13, "(float[2,3] x) => (float y) { y = Unsqueeze<axes=[0,3]>(x) }"),
        Case("Unsqueeze", 13, "(float[2,3] x) => (float y) { y = Unsqueeze<axes=[-1]>(x) }"),
        *(case for op in REDUCED for case in reduction(op, 13 if op == "ReduceSum" else 18)),
        Case("Reshape", 5, "(float[2,6] x) => (float y) { y = Reshape<shape=[0,-1,3]>(x) }"),
        Case("Slice", 10, "(float[4,5,6] x) => (float y) { y = Slice<starts=[1,-3], ends=[9223372036854775807,-1], axes=[0,2]>(x) }"),
        Case("Slice", 10, "(float[4,5] x) => (float y) { y = Slice<starts=[0,4], ends=[2,2]>(x) }"),
        Case("TopK", 10, "(float[3,5] x) => (float v, int64 i) { v, i = TopK<k=3, axis=1>(x) }"),
        Case("TopK", 10, "(float[4] x) => (float v, int64 i) { v, i = TopK<k=4>(x) }", feeds={"x": np.array([1, 2, 1, 2], np.float32)}),
        Case("Split", 2, "(float[4,6] x) => (float a, float b) { a, b = Split<axis=1, split=[2,4]>(x) }", lambda x: (x[:, :2], x[:, 2:])),
        Case("Split", 2, "(float[4,6] x) => (float a, float b) <float[2] n={2,4}> { a, b = Split<axis=1>(x, n) }", lambda x: (x[:, :2], x[:, 2:])),
        Case("Split", 13, "(float[4,6] x) => (float a, float b) { a, b = Split<axis=1, split=[5,1]>(x) }"),
        Case("Split", 13, "(float[4,6] x) => (float a, float b) { a, b = Split<axis=-1>(x) }"),
        Case("Split", 18, "(float[4,6] x) => (float a, float b) { a, b = Split(x) }"),
        Case("Split", 18, "(float[4,6] x, int64[2] n) => (float a, float b) { a, b = Split(x, n) }", feeds={"n": np.array([1, 3])}),
        Case("Tile", 6, "(float[2,3] x) => (float y) <float n={2}, float a={1}> { y = Tile(x, n, a) }", lambda x: np.tile(x, (1, 2))),
        Case("Pad", 2, "(float[2,3] x) => (float y) { y = Pad<paddings=[0,1,2,0], value=1.5>(x) }", lambda x: np.pad(x, ((0, 2), (1, 0)), constant_values=1.5)),
        Case("Pad", 11, "(float[2,3] x) => (float y) { y = Pad<pads=[0,1,2,0]>(x) }"),
        Case("Pad", 11, "(float[2,3] x) => (float y) { y = Pad<pads=[0,1,2,0], value=-0.0>(x) }"),
        Case("Pad", 11, "(double[2,3] x) => (double y) { y = Pad<pads=[0,-1,2,0], value=2.5>(x) }"),
        *(Case("Pad", 11, f'(float[4,5] x) => (float y) {{ y = Pad<pads=[1,2,1,0], mode="{mode}">(x) }}') for mode in ("reflect", "edge")),
        Case("DFT", 20, "(float[1,4,5,1] x) => (float y) { y = DFT<axis=2>(x) }"),
        Case("DFT", 20, "(float[1,4,5,2] x, int64 n) => (float y) { y = DFT<inverse=1>(x, n) }", feeds={"n": np.array(3)}),
    ]


REDUCED = [f"Reduce{kind}" for kind in ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare")]


def _clips() -> list[Case]:
    extremes = np.array([np.inf, -np.inf, np.nan, 60000, -60000, 0.5], np.float16)
    return [
        Case("Clip", 11, "(float[3,4] x) => (float y) { y = Clip<min=0.0, max=6.0>(x) }"),
        Case("Clip", 11, "(float[3,4] x) => (float y) { y = Clip<min=0.1>(x) }"),
        Case("Clip", 11, "(float[3,4] x) => (float y) { y = Clip<max=-0.0>(x) }"),
        Case("Clip", 11, "(float[3,4] x) => (float y) { y = Clip(x) }"),
        *(
            Case("Clip", 11, f"(float16[6] x) => (float16 y) {{ y = Clip{bounds}(x) }}", feeds={"x": extremes})
            for bounds in ("", "<min=0.1>", "<max=100000.0>", "<min=-1.0, max=0.3>")
        ),
        *(
            Case("Clip", 12, f"(float16[6] x, float16 b) => (float16 y) {{ y = Clip(x{bound}) }}", feeds={"x": extremes, "b": np.array(0.25, np.float16)})
            for bound in ("", ", b", ", , b", ", b, b")
        ),
    ]


def _normalisations() -> list[Case]:
    per_channel = "float[3] s, float[3] b, float[3] m, float[3] v"
    per_activation = "float[3,2,2] s, float[3,2,2] b, float[3,2,2] m, float[3,2,2] v"
    variance = {"v": np.array([0.5, 1, 2], np.float32)}
    many = {"v": np.linspace(0.1, 2, 12, dtype=np.float32).reshape(3, 2, 2)}

    def normalise(x: np.ndarray, s: np.ndarray, b: np.ndarray, m: np.ndarray, v: np.ndarray) -> np.ndarray:
        s, b, m, v = (item.reshape(3, 1, 1) for item in (s, b, m, v))
        return (x - m) / np.sqrt(v + 1e-5) * s + b

    head = f"(float[2,3,2,2] x, {per_channel}) => (float y) "
    return [
        Case("BatchNormalization", 6, head + "{ y = BatchNormalization<consumed_inputs=[0,0,0,1,1], is_test=1>(x, s, b, m, v) }", normalise, variance),
        Case("BatchNormalization", 7, head + "{ y = BatchNormalization<is_test=1, momentum=0.5>(x, s, b, m, v) }", normalise, variance),
        Case("BatchNormalization", 9, head + "{ y = BatchNormalization<spatial=1>(x, s, b, m, v) }", feeds=variance),
        Case(
            "BatchNormalization",
            9,
            f"(float[2,3,2,2] x, {per_activation}) => (float y) {{ y = BatchNormalization<spatial=0, epsilon=0.01>(x, s, b, m, v) }}",
            feeds=many,
        ),
        Case("BatchNormalization", 14, head + "{ y = BatchNormalization<epsilon=0.001>(x, s, b, m, v) }", feeds=variance),
        Case("GroupNormalization", 21, "(float[2,6,3] x, float[2] s, float[2] b) => (float y) { y = GroupNormalization<num_groups=2>(x, s, b) }"),
        Case("GroupNormalization", 21, "(float[N,C,4] x, float[3] s, float[3] b) => (float y) { y = GroupNormalization<num_groups=3>(x, s, b) }"),
        Case(
            "GroupNormalization", 21, "(float[2,6,3] x) => (float y) <float[2] s={1.5,2}, float[2] b={-1,3}> { y = GroupNormalization<num_groups=2>(x, s, b) }"
        ),
        Case(
            "GroupNormalization",
            21,
            "(float16[2,6,3] x, float16[2] s, float16[2] b) => (float16 y) { y = GroupNormalization<num_groups=2>(x, s, b) }",
            rounds=True,
        ),
        Case("GroupNormalization", 21, "(double[2,6,3] x, double[2] s, double[2] b) => (double y) { y = GroupNormalization<num_groups=2>(x, s, b) }"),
        Case("Dropout", 7, "(float[3,4] x) => (float y) { y = Dropout<is_test=1>(x) }", lambda x: x),
        Case("Dropout", 10, "(float[3,4] x) => (float y, float m) { y, m = Dropout(x) }"),
        Case("Dropout", 10, "(double[3,4] x) => (double z) { y, m = Dropout(x) z = Add(y, m) }"),
        Case("Dropout", 12, "(float[3,4] x) => (float y, bool m) { y, m = Dropout<ratio=0.9>(x) }"),
        Case("Dropout", 12, "(float[3,4] x) => (float y) { y, m = Dropout<ratio=0.9>(x) }"),
    ]


def _resizes() -> list[Case]:
    image = "(float[1,2,4,6] x) => (float y) "
    scales = ("1,1,2,2", "1,1,0.5,0.5", "1,1,0.6,0.3", "1,1,2.5,0.4", "1,1,1.5,1.7")
    cases = [Case("Upsample", 7, image + f"{{ y = Upsample<height_scale=2.0, width_scale=3.0{mode}>(x) }}", _enlarged) for mode in ("", ', mode="nearest"')]
    cases += [Case("Upsample", 7, image + '{ y = Upsample<height_scale=1.0, width_scale=2.0, mode="bilinear">(x) }', _widened)]
    cases += [
        Case("Upsample", 9, image + f'{{ y = Upsample<scales=[{factors}], mode="{mode}">(x) }}')
        for factors in ("1.0,1.0,2.0,2.0", "1.0,1.0,1.5,2.7")
        for mode in ("nearest", "linear")
    ]
    for mode in ("nearest", "linear"):
        cases.append(Case("Upsample", 10, image + f'<float[4] s={{1,1,2,3}}> {{ y = Upsample<mode="{mode}">(x, s) }}'))
        cases.append(
            Case(
                "Upsample",
                10,
                f'(float[1,2,4,6] x, float[4] s) => (float y) {{ y = Upsample<mode="{mode}">(x, s) }}',
                feeds={"s": np.array([1, 1, 1.6, 2.2], np.float32)},
            )
        )
        for factors in scales:
            cases.append(Case("Resize", 11, image + f'<float[4] s={{{factors}}}> {{ y = Resize<mode="{mode}">(x, s) }}'))
            held = np.array([float(item) for item in factors.split(",")], np.float32)
            cases.append(Case("Resize", 11, f'(float[1,2,4,6] x, float[4] s) => (float y) {{ y = Resize<mode="{mode}">(x, s) }}', feeds={"s": held}))
    empty = "<float[0] none={}, float[4] s={1,1,2,0.5}, int64[4] n={1,2,3,9}, float[8] r={0,0,0.1,0.2,1,1,0.8,1}>"
    for mode in ("nearest", "linear", "cubic"):
        cases += [
            Case("Resize", 13, image + empty + f'{{ y = Resize<mode="{mode}">(x, none, s) }}'),
            Case("Resize", 13, image + empty + f'{{ y = Resize<mode="{mode}", coordinate_transformation_mode="align_corners">(x, r, none, n) }}'),
            Case("Resize", 13, image + empty + f'{{ y = Resize<mode="{mode}", coordinate_transformation_mode="pytorch_half_pixel">(x, none, none, n) }}'),
        ]
    cases.append(
        Case(
            "Resize", 13, image + empty + '{ y = Resize<mode="linear", coordinate_transformation_mode="tf_crop_and_resize", extrapolation_value=7.0>(x, r, s) }'
        )
    )
    return cases


def _enlarged(x: np.ndarray) -> np.ndarray:
    return x.repeat(2, 2).repeat(3, 3)


def _widened(x: np.ndarray) -> np.ndarray:
    right = np.concatenate([x[..., 1:], x[..., -1:]], -1)
    return np.stack([x, (x + right) / 2], -1).reshape(*x.shape[:-1], -1)


def _experiments() -> list[Case]:
    image = "(float[2,3,5,6] x) => (float y) "
    texts = (
        ("Affine", "Affine<alpha=0.7, beta=-0.3>(x)"),
        ("Scale", "Scale<scale=0.7>(x)"),
        ("ImageScaler", "ImageScaler<bias=[0.5, -1.3, 2.0], scale=0.7>(x)"),
        ("ImageScaler", "ImageScaler<bias=[0.5, -1.3, 2.0]>(x)"),
        ("Crop", "Crop<border=[1, 2, 3, 0]>(x)"),
        ("Crop", "Crop<border=[1, 2, 1, 1], scale=[2, 3]>(x)"),
        ("ThresholdedRelu", "ThresholdedRelu<alpha=0.7>(x)"),
        ("ThresholdedRelu", "ThresholdedRelu(x)"),
        ("MeanVarianceNormalization", "MeanVarianceNormalization(x)"),
        ("MeanVarianceNormalization", "MeanVarianceNormalization<across_channels=1>(x)"),
    )
    rounding = (
        ("ScaledTanh", "ScaledTanh<alpha=0.7, beta=0.3>(x)"),
        ("ParametricSoftplus", "ParametricSoftplus<alpha=0.7, beta=0.3>(x)"),
        ("MeanVarianceNormalization", "MeanVarianceNormalization<normalize_variance=0>(x)"),
    )
    bounds = "<int64[1] s={1}, int64[1] e={-1}, int64[1] a={2}>"
    cases = [Case(op, EXPERIMENTAL, f"{image}{{ y = {call} }}", opset=7) for op, call in texts]
    cases += [Case(op, EXPERIMENTAL, f"{image}{{ y = {call} }}", opset=7, rounds=True) for op, call in rounding]
    return [*cases, Case("DynamicSlice", EXPERIMENTAL, f"{image}{bounds} {{ y = DynamicSlice(x, s, e, a) }}", opset=7)]


def _scans() -> list[Case]:
    body = "body = step (float[2] before, float[2] now) => (float[2] after, float[2] seen) { after = Add(before, now) seen = Mul(after, now) }"
    head = "(float[3,2] start, float[3,5,2] x) => (float[3,2] end, float[3,5,2] all) "
    return [
        Case("Scan", 9, head + f"{{ end, all = Scan<num_scan_inputs=1, {body}>(, start, x) }}"),
        Case("Scan", 9, head + f"{{ end, all = Scan<num_scan_inputs=1, directions=[1], {body}>(, start, x) }}"),
    ]


CASES = [
    *_legacy(), *_recurrent(), *_broadcasts(), *_inputs(), *_clips(), *_normalisations(), *_resizes(), *_scans(), *_experiments(),
    *matrixwise("Softmax"), *matrixwise("LogSoftmax"), *matrixwise("Hardmax"),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=str)
def test_raised_model_computes_what_the_old_one_did(case: Case, run_onnx, assert_same_bits) -> None:
    model = _model(case)
    before = ir.to_proto(model)
    context = Context(reasons=Reasons())
    assert NormaliseOpset().run(model, context) == 1, [miss.reason for miss in context.reasons.misses]
    assert model.graph.opset_imports == {"": 21} and model.ir_version >= 10
    check(model)
    onnx.shape_inference.infer_shapes(ir.to_proto(model), check_type=True, strict_mode=True)
    generator = np.random.default_rng(0)
    for special in (False, True):
        feeds = {value.name: case.feeds.get(value.name, _fill(value, generator, special)) for value in model.graph.inputs}
        after = run_onnx(model, feeds)
        if case.rounds:
            eps = np.finfo(after["y"].dtype).eps
            np.testing.assert_allclose(after["y"], run_onnx(before, feeds)["y"], rtol=4 * eps, atol=eps)
        elif case.expected is None:
            assert_same_bits(run_onnx(before, feeds), after)
        elif not special:
            with np.errstate(invalid="ignore"):
                _assert_near(case.expected(*feeds.values()), list(after.values()))
    assert NormaliseOpset().run(model, Context()) == 0


def _assert_near(expected: object, outputs: list[np.ndarray]) -> None:
    wanted = expected if isinstance(expected, tuple) else (expected,)
    for want, have in zip(wanted, outputs, strict=True):
        assert np.shape(want) == have.shape
        np.testing.assert_allclose(have, want, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("case", [case for case in CASES if case.expected is not None], ids=str)
def test_formula_stands_in_only_where_there_is_no_kernel(case: Case, run_onnx) -> None:
    model = _model(case)
    feeds = {value.name: case.feeds.get(value.name, _fill(value, np.random.default_rng(0), False)) for value in model.graph.inputs}
    with pytest.raises(NoKernel):
        run_onnx(model, feeds)


def test_every_adapter_has_a_case() -> None:
    assert set(adapters()) == {(case.op, case.step) for case in CASES}


def test_every_adapter_stands_at_a_version_of_its_operator() -> None:
    assert all(version == EXPERIMENTAL or version in versions()[op] for op, version in adapters())
