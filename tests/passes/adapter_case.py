"""One model in an old opset and what it computes, and families of such models."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Case:
    """A model, below the step ``op`` took at ``step``, that must come through it.

    ``expected`` computes its outputs where ONNX Runtime has no kernel as old as that. ``feeds`` replaces what `fill` would make up.
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


def fill(value: ir.Value, generator: np.random.Generator, special: bool) -> np.ndarray:
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


def build(case: Case) -> ir.Model:
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
