"""Models in the first opsets: consumed inputs, broadcast attributes, inputs that were attributes."""

from __future__ import annotations

import numpy as np

from .adapter_case import Case, binary, broadcast, reduction, unary

REDUCED = [f"Reduce{kind}" for kind in ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare")]


def legacy() -> list[Case]:
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


def broadcasts() -> list[Case]:
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


def inputs() -> list[Case]:
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
