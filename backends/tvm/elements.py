"""Element types that generated code computes with, and constants of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from ...compiler.core.errors import TargetError

NUMBERS = frozenset(
    {
        "FLOAT", "DOUBLE", "FLOAT16", "BFLOAT16", "INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64", "BOOL",
        "FLOAT8E4M3FN", "FLOAT8E4M3FNUZ", "FLOAT8E5M2", "FLOAT8E5M2FNUZ",
    }
)  # fmt: skip
"""Element types that the generated code computes with."""


def constant_of(array: np.ndarray) -> Any:
    """An array as a constant of its own type; left to itself, TVM makes int32 of int64 and float32 of float64."""
    from tvm import relax

    return relax.const(np.ascontiguousarray(array).reshape(array.shape), array.dtype.name)


def dtype_of(value: ir.Value) -> str:
    """The element type of a value as TVM writes it."""
    assert value.dtype is not None, f"'{value.name}' has no type"
    return value.dtype.numpy().name


def refuse_type(value: ir.Value, what: str, dtype: ir.DataType | None = None) -> None:
    """Raise TargetError, naming ``what``, when a value is no tensor of a type that code is generated for."""
    if value.type is not None and not isinstance(value.type, ir.TensorType):
        raise TargetError(f"tvm takes tensors only; {what} is a {type(value.type).__name__.removesuffix('Type').lower()}")
    found = dtype or value.dtype
    if found is None:
        raise TargetError(f"tvm does not take {what}: nobody knows what type it makes")
    if found.name not in NUMBERS:
        raise TargetError(f"tvm does not compute in {found.name.lower()} here ({what})")
