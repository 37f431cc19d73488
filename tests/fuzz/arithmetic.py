"""Steps of a random model that compute: elementwise, reductions, products, normalisations."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .draft import BOOL, DOUBLE, FLOAT, FLOATS, HALF, INT32, INT64, INTEGERS, UINT8, Dim, Draft, Value

Step = Callable[[Draft], object]
EXACT_UNARY = ("Relu", "Abs", "Neg", "Identity", "Dropout")
ROUNDED_UNARY = ("Sigmoid", "Tanh", "Erf", "Sqrt", "Exp", "Log", "Reciprocal", "Softplus", "Sin", "Cos", "Softsign", "Mish", "HardSwish", "Gelu", "HardSigmoid")
STEPPING = ("Floor", "Ceil", "Round", "Sign")
NO_DOUBLE = ("Gelu", "HardSwish", "Mish", "HardSigmoid", "LeakyRelu", "Elu", "Softsign", "Softplus", "Cos", "Erf")
NUMBERS = (0.0, 1.0, -1.0, 2.0, 0.5, 3.0, -0.5, 0.1, 1e-3, 6.0)


def broadcast(one: tuple[Dim, ...], other: tuple[Dim, ...]) -> tuple[Dim, ...] | None:
    """The shape of an elementwise result; None where that cannot be told."""
    long, short = (one, other) if len(one) >= len(other) else (other, one)
    result = list(long)
    for place, dim in enumerate(reversed(short), 1):
        here = result[-place]
        if here == dim or dim == 1:
            continue
        if here != 1:
            return None
        result[-place] = dim
    return tuple(result)


def unary(draft: Draft) -> object:
    value = draft.pick_float()
    if value is None:
        return None
    kind = draft.draw.choice(EXACT_UNARY + ROUNDED_UNARY if draft.draw.random() < 0.7 else EXACT_UNARY)
    if kind in NO_DOUBLE and value.dtype != FLOAT:
        kind = "Tanh" if value.dtype == DOUBLE else "Sigmoid"
    return draft.add(kind, [value], value.dtype, value.shape, exact=kind in EXACT_UNARY)


def shaped(draft: Draft) -> object:
    """An activation with a parameter."""
    value = draft.pick(lambda value: value.dtype == FLOAT)
    if value is None:
        return None
    kind = draft.draw.choice(("LeakyRelu", "Elu", "Clip", "Clip", "PRelu", "ThresholdedRelu"))
    if kind == "Clip":
        bounds = [draft.number(FLOAT, -1.0, 0.0, -3.0) if draft.draw.random() < 0.8 else None, draft.number(FLOAT, 1.0, 6.0, 0.5)]
        return draft.add(kind, [value, *(_scalar(draft, bound) for bound in bounds)], FLOAT, value.shape)
    if kind == "PRelu":
        return draft.add(kind, [value, draft.number(FLOAT, 0.1, -0.5, 2.0)], FLOAT, value.shape if value.rank else (1,), exact=False) if value.rank else None
    return draft.add(kind, [value], FLOAT, value.shape, exact=False, alpha=draft.draw.choice((0.01, 0.3, 1.0)))


def _scalar(draft: Draft, value: Value | None) -> Value | None:
    """The same constant without dimensions, which is what a bound has to be."""
    if value is None or not value.shape:
        return value
    return draft.add("Squeeze", [value], value.dtype, ())


def stepping(draft: Draft) -> object:
    """An operator that jumps, on what is exact."""
    value = draft.pick(lambda value: value.dtype in (FLOAT, DOUBLE) and value.exact)
    return draft.add(draft.draw.choice(STEPPING), [value], value.dtype, value.shape) if value is not None else None


def binary(draft: Draft) -> object:
    one = draft.pick(lambda value: value.dtype in (*FLOATS, *INTEGERS))
    if one is None:
        return None
    kind = draft.draw.choice(("Add", "Add", "Mul", "Mul", "Sub", "Div", "Max", "Min"))
    other = _partner(draft, one)
    if one.dtype in INTEGERS and kind == "Div":
        other = draft.number(one.dtype, 2, 3, 1, -2)
    if other is None:
        return None
    shape = broadcast(one.shape, other.shape)
    if shape is None:
        return None
    pair = [one, other] if draft.draw.random() < 0.6 or (one.dtype in INTEGERS and kind == "Div") else [other, one]
    return draft.add(kind, pair, one.dtype, shape, exact=kind in ("Max", "Min") or one.dtype in INTEGERS)


def _partner(draft: Draft, one: Value) -> Value | None:
    """A second operand: a number, a row, the same again, or another value that broadcasts with it."""
    choice = draft.draw.random()
    if choice < 0.3:
        return draft.number(one.dtype, *(NUMBERS if one.dtype in FLOATS else (0, 1, 2, 3, -1)))
    if choice < 0.5 and one.dtype in FLOATS and one.rank:
        shape = [dim if isinstance(dim, int) and draft.draw.random() < 0.7 else 1 for dim in one.shape]
        return draft.weight(one.dtype, *shape[draft.draw.randrange(one.rank) :])
    if choice < 0.55:
        return one
    return draft.pick(lambda value: value.dtype == one.dtype and broadcast(one.shape, value.shape) is not None)


def power(draft: Draft) -> object:
    value = draft.pick(lambda value: value.dtype in (FLOAT, DOUBLE))
    return (
        draft.add("Pow", [value, draft.number(value.dtype, 2.0, 3.0, 0.5, 1.0, -1.0, 0.0)], value.dtype, value.shape or (), exact=False)
        if _ranked(value)
        else None
    )


def _ranked(value: Value | None) -> bool:
    return value is not None and value.rank > 0


def comparison(draft: Draft) -> object:
    one = draft.pick(lambda value: value.exact and value.dtype in (FLOAT, *INTEGERS))
    if one is None:
        return None
    other = draft.number(one.dtype, 0, 1) if draft.draw.random() < 0.5 else draft.pick(lambda value: value.exact and value.dtype == one.dtype)
    shape = broadcast(one.shape, other.shape) if other is not None else None
    kind = draft.draw.choice(("Less", "Greater", "LessOrEqual", "GreaterOrEqual", "Equal"))
    return draft.add(kind, [one, other], BOOL, shape) if shape is not None else None


def logic(draft: Draft) -> object:
    one = draft.pick(lambda value: value.dtype == BOOL)
    if one is None:
        return None
    if draft.draw.random() < 0.5:
        return draft.add("Not", [one], BOOL, one.shape)
    other = draft.pick(lambda value: value.dtype == BOOL and broadcast(one.shape, value.shape) is not None)
    return draft.add(draft.draw.choice(("And", "Or", "Xor")), [one, other], BOOL, broadcast(one.shape, other.shape)) if other is not None else None  # type: ignore[arg-type]


def choice(draft: Draft) -> object:
    condition = draft.pick(lambda value: value.dtype == BOOL)
    if condition is None:
        return None
    one = draft.pick(lambda value: value.dtype in (FLOAT, *INTEGERS) and broadcast(condition.shape, value.shape) is not None)
    if one is None:
        return None
    shape = broadcast(condition.shape, one.shape)
    other = _partner(draft, one)
    full = broadcast(shape, other.shape) if other is not None and shape is not None else None
    pair = [one, other] if draft.draw.random() < 0.5 else [other, one]
    return draft.add("Where", [condition, *pair], one.dtype, full) if full is not None else None


def cast(draft: Draft) -> object:
    value = draft.pick()
    if value is None or value.dtype == UINT8:
        return None
    to = draft.draw.choice((FLOAT, FLOAT, DOUBLE, HALF, INT64, INT32, BOOL))
    if value.dtype in FLOATS and to in (INT64, INT32, BOOL) and not (value.exact and to == BOOL):
        return None
    return draft.add("Cast", [value], to, value.shape, exact=to != HALF, to=to)


def reduction(draft: Draft) -> object:
    value = draft.pick(lambda value: value.dtype in (FLOAT, DOUBLE, *INTEGERS) and value.rank > 0)
    if value is None:
        return None
    kinds = (
        ("ReduceSum", "ReduceMax", "ReduceMin")
        if value.dtype in INTEGERS
        else ("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceL2", "ReduceL1", "ReduceSumSquare")
    )
    kind = draft.draw.choice(kinds)
    axes = sorted(draft.draw.sample(range(value.rank), draft.draw.randint(1, min(2, value.rank))))
    if kind in ("ReduceMax", "ReduceMin") and any(value.shape[axis] == 0 or isinstance(value.shape[axis], str) for axis in axes):
        kind = "ReduceSum"
    keep = draft.draw.randint(0, 1)
    shape = [1 if axis in axes else dim for axis, dim in enumerate(value.shape) if keep or axis not in axes]
    given = draft.integers(*(axis - value.rank if draft.draw.random() < 0.3 else axis for axis in axes))
    return draft.add(kind, [value, given], value.dtype, shape, exact=kind in ("ReduceMax", "ReduceMin"), keepdims=keep)


def softmax(draft: Draft) -> object:
    value = draft.pick(lambda value: value.dtype in (FLOAT, DOUBLE) and value.rank > 0)
    if value is None:
        return None
    return draft.add(
        draft.draw.choice(("Softmax", "LogSoftmax")), [value], value.dtype, value.shape, exact=False, axis=draft.draw.randrange(-value.rank, value.rank)
    )


def linear(draft: Draft) -> object:
    """A product by a constant matrix, often with a bias."""
    value = draft.pick(lambda value: value.dtype in FLOATS and value.rank >= 2 and isinstance(value.shape[-1], int))
    if value is None:
        return None
    width, dtype = draft.draw.choice((1, 2, 3, 4, 8)), value.dtype
    inner = int(value.shape[-1])
    if value.rank == 2 and draft.draw.random() < 0.5:
        turned = draft.draw.randint(0, 1)
        weight = draft.weight(dtype, width, inner) if turned else draft.weight(dtype, inner, width)
        bias = draft.weight(dtype, *draft.draw.choice(((width,), (1, width), (1,), ()))) if draft.draw.random() < 0.7 else None
        scales = {"alpha": 0.5} if draft.draw.random() < 0.2 else {}
        return draft.add("Gemm", [value, weight, bias], dtype, (value.shape[0], width), exact=False, transB=turned, **scales)
    made = draft.add("MatMul", [value, draft.weight(dtype, inner, width)], dtype, (*value.shape[:-1], width), exact=False)
    return draft.add("Add", [made, draft.weight(dtype, width)], dtype, made.shape, exact=False) if draft.draw.random() < 0.5 else made


def product(draft: Draft) -> object:
    """A product of two values of the model."""
    one = draft.pick(lambda value: value.dtype == FLOAT and value.rank >= 2)
    if one is None:
        return None
    other = draft.pick(
        lambda value: value.dtype == FLOAT and value.rank == one.rank and value.shape[-2] == one.shape[-1] and value.shape[:-2] == one.shape[:-2]
    )
    if other is None:
        turned = [*range(one.rank - 2), one.rank - 1, one.rank - 2]
        other = draft.add("Transpose", [one], one.dtype, (*one.shape[:-2], one.shape[-1], one.shape[-2]), perm=turned)
    return draft.add("MatMul", [one, other], FLOAT, (*one.shape[:-1], other.shape[-1]), exact=False)


def convolution(draft: Draft) -> object:
    value = draft.pick(lambda value: value.dtype == FLOAT and value.rank in (3, 4) and isinstance(value.shape[1], int) and value.shape[1] > 0)
    if value is None:
        return None
    channels, spatial = int(value.shape[1]), value.rank - 2
    group = draft.draw.choice((1, 1, channels)) if channels <= 4 else 1
    made = group * draft.draw.choice((1, 2))
    kernel = draft.draw.choice((1, 1, 3))
    pad = kernel // 2
    weight = draft.weight(FLOAT, made, channels // group, *([kernel] * spatial))
    bias = draft.weight(FLOAT, made) if draft.draw.random() < 0.5 else None
    shape = (value.shape[0], made, *value.shape[2:])
    return draft.add("Conv", [value, weight, bias], FLOAT, shape, exact=False, group=group, pads=[pad] * (2 * spatial), kernel_shape=[kernel] * spatial)


def pool(draft: Draft) -> object:
    value = draft.pick(lambda value: value.dtype == FLOAT and value.rank == 4 and all(isinstance(dim, int) and dim > 0 for dim in value.shape[2:]))
    if value is None:
        return None
    kind = draft.draw.choice(("MaxPool", "AveragePool", "GlobalAveragePool"))
    if kind == "GlobalAveragePool":
        return draft.add(kind, [value], FLOAT, (*value.shape[:2], 1, 1), exact=False)
    kernel = draft.draw.choice((1, 3))
    more = {"count_include_pad": 1} if kind == "AveragePool" and draft.draw.random() < 0.5 else {}
    return draft.add(kind, [value], FLOAT, value.shape, exact=kind == "MaxPool", kernel_shape=[kernel] * 2, pads=[kernel // 2] * 4, **more)


def normalisation(draft: Draft) -> object:
    value = draft.pick(lambda value: value.dtype == FLOAT and value.rank >= 2 and isinstance(value.shape[1], int) and isinstance(value.shape[-1], int))
    if value is None:
        return None
    channels, width = int(value.shape[1]), int(value.shape[-1])
    kind = draft.draw.choice(("LayerNormalization", "BatchNormalization", "InstanceNormalization"))
    if kind == "LayerNormalization":
        return draft.add(kind, [value, draft.weight(FLOAT, width), draft.weight(FLOAT, width)], FLOAT, value.shape, exact=False)
    parts = [draft.weight(FLOAT, channels), draft.weight(FLOAT, channels)]
    if kind == "InstanceNormalization" and value.rank > 2:
        return draft.add(kind, [value, *parts], FLOAT, value.shape, exact=False)
    return draft.add(
        "BatchNormalization", [value, *parts, draft.weight(FLOAT, channels), draft.weight(FLOAT, channels, positive=True)], FLOAT, value.shape, exact=False
    )


def quantisation(draft: Draft) -> object:
    """A pair of QuantizeLinear and DequantizeLinear, or one of them."""
    codes = draft.pick(lambda value: value.dtype == UINT8)
    scale, zero = draft.draw.choice(((0.05, 128), (0.1, 0), (0.02, 100)))
    parts = [draft.constant(np.array(scale, np.float32)), draft.constant(np.array(zero, np.uint8))]
    if codes is not None and draft.draw.random() < 0.6:
        return draft.add("DequantizeLinear", [codes, *parts], FLOAT, codes.shape)
    value = draft.pick(lambda value: value.dtype == FLOAT and value.exact)
    return draft.add("QuantizeLinear", [value, *parts], UINT8, value.shape) if value is not None else None
