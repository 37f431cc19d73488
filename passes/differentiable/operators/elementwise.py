"""Operators on each element by itself."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING

import onnx_ir as ir

from .call import Call, Operator, Operators, plain

if TYPE_CHECKING:
    import torch

__all__ = ["operators", "torch_dtype"]

DTYPES = {
    "FLOAT": "float32", "DOUBLE": "float64", "FLOAT16": "float16", "BFLOAT16": "bfloat16", "BOOL": "bool", "INT8": "int8", "INT16": "int16",
    "INT32": "int32", "INT64": "int64", "UINT8": "uint8",
}  # fmt: skip


def torch_dtype(dtype: int) -> torch.dtype | None:
    """torch's name for an ONNX data type; None when it has none."""
    import torch

    name = DTYPES.get(ir.DataType(dtype).name)
    return None if name is None else getattr(torch, name)


def operators() -> Operators:
    """By operator type."""
    import torch
    from torch.nn import functional

    def clip(call: Call, x: torch.Tensor, low: torch.Tensor | None = None, high: torch.Tensor | None = None) -> torch.Tensor:
        if call.version < 11:
            return torch.clamp(x, call.number("min", -3.4028234663852886e38), call.number("max", 3.4028234663852886e38))
        x = x if low is None else torch.maximum(x, low)
        return x if high is None else torch.minimum(x, high)

    def cast(call: Call, x: torch.Tensor) -> torch.Tensor:
        dtype = torch_dtype(call.whole("to"))
        if dtype is None:
            raise call.refuse(f"the type {ir.DataType(call.whole('to')).name}")
        return x.to(dtype)

    def divide(call: Call, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return x / y if x.is_floating_point() else torch.div(x, y, rounding_mode="trunc")

    def infinite(call: Call, x: torch.Tensor) -> torch.Tensor:
        up, down = call.whole("detect_positive", 1), call.whole("detect_negative", 1)
        return torch.isinf(x) & ((x > 0) & bool(up) | (x < 0) & bool(down))

    def shrunk(call: Call, x: torch.Tensor) -> torch.Tensor:
        limit, bias = call.number("lambd", 0.5), call.number("bias")
        return torch.where(x > limit, x - bias, torch.where(x < -limit, x + bias, torch.zeros_like(x)))

    def folded(function: Callable[..., torch.Tensor]) -> Operator:
        return lambda call, *inputs: functools.reduce(function, inputs)

    return {
        "Add": plain(torch.add), "Sub": plain(torch.sub), "Mul": plain(torch.mul), "Div": divide,
        "Mod": lambda call, x, y: torch.fmod(x, y) if call.whole("fmod") else torch.remainder(x, y),
        "Pow": lambda call, x, y: torch.pow(x, y).to(x.dtype),
        "Max": folded(torch.maximum), "Min": folded(torch.minimum), "Sum": folded(torch.add),
        "Mean": lambda call, *inputs: functools.reduce(torch.add, inputs) / len(inputs),
        "Neg": plain(torch.neg), "Abs": plain(torch.abs), "Sqrt": plain(torch.sqrt), "Reciprocal": plain(torch.reciprocal), "Exp": plain(torch.exp),
        "Log": plain(torch.log), "Sin": plain(torch.sin), "Cos": plain(torch.cos), "Tan": plain(torch.tan), "Erf": plain(torch.erf),
        "Atan": plain(torch.atan), "Floor": plain(torch.floor), "Ceil": plain(torch.ceil), "Round": plain(torch.round), "Sign": plain(torch.sign),
        "Sinh": plain(torch.sinh), "Cosh": plain(torch.cosh), "Asin": plain(torch.asin), "Acos": plain(torch.acos), "Asinh": plain(torch.asinh),
        "Acosh": plain(torch.acosh), "Atanh": plain(torch.atanh), "Shrink": shrunk,
        "ThresholdedRelu": lambda call, x: torch.where(x > call.number("alpha", 1.0), x, torch.zeros_like(x)),
        "Relu": plain(torch.relu), "Sigmoid": plain(torch.sigmoid), "Tanh": plain(torch.tanh), "Softplus": plain(functional.softplus),
        "Softsign": plain(functional.softsign), "Mish": plain(functional.mish), "Clip": clip,
        "HardSwish": plain(functional.hardswish),
        "LeakyRelu": lambda call, x: functional.leaky_relu(x, call.number("alpha")),
        "Elu": lambda call, x: functional.elu(x, call.number("alpha")),
        "Celu": lambda call, x: functional.celu(x, call.number("alpha")),
        "Selu": lambda call, x: call.number("gamma") * functional.elu(x, call.number("alpha")),
        "PRelu": lambda call, x, slope: torch.where(x < 0, x * slope, x),
        "HardSigmoid": lambda call, x: torch.clamp(call.number("alpha") * x + call.number("beta"), 0.0, 1.0),
        "Gelu": lambda call, x: functional.gelu(x, approximate=call.text("approximate", "none")),
        "Swish": lambda call, x: x * torch.sigmoid(call.number("alpha", 1.0) * x),
        "Where": plain(torch.where), "Equal": plain(torch.eq), "Less": plain(torch.lt), "LessOrEqual": plain(torch.le), "Greater": plain(torch.gt),
        "GreaterOrEqual": plain(torch.ge), "And": plain(torch.logical_and), "Or": plain(torch.logical_or), "Xor": plain(torch.logical_xor),
        "Not": plain(torch.logical_not), "IsNaN": plain(torch.isnan), "IsInf": infinite,
        "Cast": cast, "CastLike": lambda call, x, like: x.to(like.dtype),
        "Identity": lambda call, x: x, "Dropout": lambda call, x, *_: x,
    }  # fmt: skip
