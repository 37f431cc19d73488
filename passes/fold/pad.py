"""Padding that the next operator can do itself."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ...compiler.core.build import Build
from ...compiler.core.drift import ROUNDING
from ...compiler.core.graph import attribute, is_op
from ...compiler.core.pattern import ANY, Const, Pen
from ...compiler.core.reasons import Skip, skip
from ...compiler.core.rule import Match, Result, rule


def padded_conv(op: Pen, x: object, w: object, pads: Const, b: object = None, value: Const | None = None, axes: Const | None = None) -> object:
    return op.Conv(op.Pad(x, pads, value, axes, mode="constant", _name="pad"), w, b, _attrs=ANY)


@rule(
    padded_conv,
    drift=ROUNDING,
    opset=11,
    examples=[
        "g (float[N,1,3,3] x, float[1,1,2,2] w) => (float[N,1,5,4] y) <int64[8] p = {0,0,1,1,0,0,2,1}> { a = Pad(x, p) y = Conv(a, w) }",
        "g (float[N,1,3,3] x, float[1,1,2,2] w) => (float[N,1,A,B] y) <int64[4] p = {1,1,2,1}, float z = {0}, int64[2] axes = {2,3}>"
        " { a = Pad(x, p, z, axes) y = Conv<pads=[1,0,0,0], auto_pad=\"NOTSET\">(a, w) }",
    ],
    leaves=[
        "g (float[N,1,3,3] x, float[1,1,2,2] w) => (float[N,1,5,4] y) <int64[8] p = {0,0,1,1,0,0,2,1}, float v = {1}> { a = Pad(x, p, v) y = Conv(a, w) }",
        "g (float[N,1,3,3] x, float[1,1,2,2] w) => (float[N,1,A,B] y) <int64[8] p = {0,0,1,1,0,0,2,1}>"
        " { a = Pad(x, p) y = Conv<auto_pad=\"SAME_UPPER\">(a, w) }",
        "g (float[N,1,3,3] x, float[1,1,2,2] w) => (float[N,1,A,B] y) <int64[8] p = {0,0,-1,0,0,0,1,1}> { a = Pad(x, p) y = Conv(a, w) }",
    ],
)
def fold_pad_into_conv(op: Build, m: Match) -> Result:
    """Conv(Pad(x, p, 0), w, pads=q) -> Conv(x, w, pads=p+q)"""
    extra = _spatial_pads(m)
    if isinstance(extra, Skip):
        return extra
    return op.like(m.root, m.x, m.w, m.b, pads=_sum(m, extra), auto_pad=None)


def padded_average(op: Pen, x: object, pads: Const, value: Const | None = None, axes: Const | None = None) -> object:
    return op.AveragePool(op.Pad(x, pads, value, axes, mode="constant", _name="pad"), _attrs=ANY)


@rule(
    padded_average,
    drift=ROUNDING,
    opset=11,
    examples=[
        "g (float[N,1,4,4] x) => (float[N,1,A,B] y) <int64[8] p = {0,0,1,1,0,0,1,1}> { a = Pad(x, p) y = AveragePool<kernel_shape=[3,3], strides=[1,1]>(a) }",
        "g (float[N,1,4,4] x) => (float[N,1,A,B] y) <int64[8] p = {0,0,1,0,0,0,1,1}>"
        " { a = Pad(x, p) y = AveragePool<kernel_shape=[3,3], pads=[1,1,0,1], count_include_pad=1>(a) }",
    ],
    leaves=[
        "g (float[N,1,4,4] x) => (float[N,1,A,B] y) <int64[8] p = {0,0,1,0,0,0,1,1}>"
        " { a = Pad(x, p) y = AveragePool<kernel_shape=[3,3], pads=[1,1,0,1]>(a) }",
        "g (float[N,1,4,4] x) => (float[N,1,A,B] y) <int64[8] p = {0,0,1,1,0,0,1,1}>"
        " { a = Pad(x, p) y = AveragePool<kernel_shape=[3,3], ceil_mode=1, strides=[2,2]>(a) }",
        "g (float[N,1,4,4] x) => (float[N,1,A,B] y) <int64[8] p = {0,0,1,1,0,0,1,1}> { a = Pad(x, p) y = MaxPool<kernel_shape=[3,3]>(a) }",
    ],
)
def fold_pad_into_average_pool(op: Build, m: Match) -> Result:
    """AveragePool(Pad(x, p, 0)) -> AveragePool(x, pads=p, count_include_pad=1)"""
    extra = _spatial_pads(m)
    if isinstance(extra, Skip):
        return extra
    own = attribute(m.root, "pads")
    uncounted = not attribute(m.root, "count_include_pad", 0) and own is not None and any(own)  # type: ignore[arg-type]
    if attribute(m.root, "ceil_mode", 0) or uncounted:
        return skip("it pads or rounds up by itself, which counts differently")
    kernel = attribute(m.root, "kernel_shape")
    pads = _sum(m, extra)
    if any(pad >= size for pad, size in zip(pads, [*kernel, *kernel], strict=True)):  # type: ignore[misc]
        return skip("the padding %s is not smaller than the kernel %s", pads, kernel)
    return op.like(m.root, m.x, pads=pads, count_include_pad=1, auto_pad=None)


def padded_maximum(op: Pen, x: object, pads: Const, value: Const | None = None, axes: Const | None = None) -> object:
    return op.MaxPool(op.Pad(x, pads, value, axes, mode="constant", _name="pad"), _attrs=ANY)


NOT_NEGATIVE = ("Relu", "Sigmoid", "Abs", "Exp", "Softmax", "Softplus", "HardSigmoid")


@rule(
    padded_maximum,
    drift=ROUNDING,
    opset=12,
    examples=[
        "g (float[N,1,4,4] x) => (float[N,1,A,B] y) <int64[8] p = {0,0,1,1,0,0,1,1}>"
        " { r = Relu(x) a = Pad(r, p) y = MaxPool<kernel_shape=[3,3], strides=[2,2]>(a) }",
        "g (int64[N,1,4,4] i) => (float[N,1,A,B] y) <int64[8] p = {0,0,0,1,0,0,1,1}>"
        " { x = Cast<to=1>(i) v = Constant<value_float=-3.4028234663852886e+38>() a = Pad(x, p, v) y = MaxPool<kernel_shape=[3,3], pads=[1,1,1,1]>(a) }",
    ],
    leaves=[
        "g (float[N,1,4,4] x) => (float[N,1,A,B] y) <int64[8] p = {0,0,1,1,0,0,1,1}> { a = Pad(x, p) y = MaxPool<kernel_shape=[3,3]>(a) }",
        "g (float[N,1,4,4] x) => (float[N,1,A,B] y) <int64[8] p = {0,0,3,3,0,0,3,3}> { r = Relu(x) a = Pad(r, p) y = MaxPool<kernel_shape=[3,3]>(a) }",
        "g (float[N,1,4,4] x) => (float[N,1,A,B] y) <int64[8] p = {0,0,1,1,0,0,1,1}>"
        " { r = Relu(x) a = Pad(r, p) y = MaxPool<kernel_shape=[3,3], strides=[2,2], ceil_mode=1>(a) }",
    ],
)
def fold_pad_into_max_pool(op: Build, m: Match) -> Result:
    """MaxPool(Pad(x, p, v), pads=q) -> MaxPool(x, pads=p+q), where v is the lowest number, or 0 and x is never negative"""
    value = m.scalar("value") if m.value is not None else 0.0
    if len(m.root.outputs) > 1 or attribute(m.root, "ceil_mode", 0) or attribute(m.root, "auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        return skip("it makes indices, rounds up, or pads by itself")
    if m.x.dtype not in (ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16) or value is None:
        return skip("it takes %s", m.x.dtype)
    lowest = value <= float(np.finfo(m.x.dtype.numpy()).min)
    if not lowest and not (value == 0 and is_op(m.x.producer(), *NOT_NEGATIVE)):
        return skip("it pads with %s, which may be larger than what is there", value)
    extra = _spatial_pads(m, any_value=True)
    if isinstance(extra, Skip):
        return extra
    pads, kernel = _sum(m, extra), attribute(m.root, "kernel_shape")
    if any(pad >= size for pad, size in zip(pads, [*kernel, *kernel], strict=True)):  # type: ignore[misc]
        return skip("the padding %s is not smaller than the kernel %s", pads, kernel)
    return op.like(m.root, m.x, pads=pads, auto_pad=None)


def _sum(m: Match, extra: list[int]) -> list[int]:
    own = attribute(m.root, "pads")
    return extra if own is None else [first + second for first, second in zip(own, extra, strict=True)]  # type: ignore[call-overload]


def _spatial_pads(m: Match, any_value: bool = False) -> list[int] | Skip:
    """The padding of the spatial dims, begins then ends."""
    if attribute(m.root, "auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        return skip("its auto_pad depends on the size")
    if not any_value and m.value is not None and m.scalar("value") != 0:
        return skip("it pads with %s", m.scalar("value"))
    if m.x.shape is None or len(m.x.shape) < 3:
        return skip("the shape of '%s' is %s", m.x.name, m.x.shape)
    rank = len(m.x.shape)
    pads = m.array("pads").astype(np.int64)
    axes = m.array("axes").astype(np.int64) % rank if m.axes is not None else np.arange(rank)
    begins, ends = np.zeros(rank, np.int64), np.zeros(rank, np.int64)
    begins[axes], ends[axes] = pads[: len(axes)], pads[len(axes) :]
    if (pads < 0).any() or begins[:2].any() or ends[:2].any():
        return skip("it pads %s, not only the spatial dims", pads.tolist())
    return [*begins[2:].tolist(), *ends[2:].tolist()]
