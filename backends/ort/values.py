"""Arrays as ONNX Runtime takes and gives them, and a clear word when they do not fit."""

from __future__ import annotations

import ctypes
import math

import numpy as np
import onnxruntime as ort

from ...compiler.core.backend import Array, Port
from ...compiler.core.errors import TargetError
from ...compiler.core.intake import Intake, describe
from .ports import ELEMENTS, parse_type

__all__ = ["Intake", "PACKED_BITS", "describe", "from_ort_value", "pack", "to_ort_value", "unpack"]

PACKED_BITS = {"int4": 4, "uint4": 4, "float4e2m1": 4, "int2": 2, "uint2": 2}
"""Element types of less than a byte, which ONNX Runtime packs and arrays do not."""
FOREIGN_TYPES = "bfloat16, float8 or int4"


def to_ort_value(port: Port, value: Array) -> ort.OrtValue:
    """An array as a value of ONNX Runtime; its memory is shared unless it must be packed."""
    kind = parse_type(port.dtype)
    if not isinstance(value, np.ndarray) or kind.kind != "tensor" or kind.element == "string":
        raise TargetError(f"ONNX Runtime's Python interface cannot pass {describe(port)} together with inputs or outputs of {FOREIGN_TYPES}")
    if kind.element in PACKED_BITS:
        return _packed_value(kind.element, value)
    if kind.is_foreign:
        return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(value, ELEMENTS[kind.element][0])
    return ort.OrtValue.ortvalue_from_numpy(value)


def from_ort_value(value: ort.OrtValue) -> Array:
    """A value of ONNX Runtime as an array (a copy where numpy has no such dtype), a list for a sequence, None for an empty optional."""
    if not value.has_value():
        return None
    if not value.is_tensor():
        raise TargetError(f"ONNX Runtime's Python interface cannot give {value.data_type()} together with inputs or outputs of {FOREIGN_TYPES}")
    kind = parse_type(value.data_type())
    if not kind.is_foreign:
        return np.asarray(value.numpy())
    codes = np.frombuffer(ctypes.string_at(value.data_ptr(), value.tensor_size_in_bytes()), dtype=np.uint8)
    if kind.element in PACKED_BITS:
        codes = unpack(codes, PACKED_BITS[kind.element], math.prod(value.shape()))
    return codes.view(ELEMENTS[kind.element][1]).reshape(value.shape()).copy()


def _packed_value(element: str, array: np.ndarray) -> ort.OrtValue:
    content = pack(array.reshape(-1).view(np.uint8), PACKED_BITS[element])
    value = ort.OrtValue.ortvalue_from_shape_and_type(list(array.shape), ELEMENTS[element][0])
    ctypes.memmove(value.data_ptr(), content.ctypes.data, content.nbytes)
    return value


def pack(codes: np.ndarray, bits: int) -> np.ndarray:
    """Codes of one byte each as bytes of 8 / ``bits`` codes, the first in the lowest bits."""
    per_byte = 8 // bits
    padded = np.zeros(-(-codes.size // per_byte) * per_byte, dtype=np.uint8)
    padded[: codes.size] = codes & ((1 << bits) - 1)
    packed = np.zeros(padded.size // per_byte, dtype=np.uint8)
    for place in range(per_byte):
        packed |= padded[place::per_byte] << (place * bits)
    return packed


def unpack(content: np.ndarray, bits: int, count: int) -> np.ndarray:
    """The first ``count`` codes that `pack` packed, one byte each."""
    per_byte = 8 // bits
    codes = np.stack([(content >> (place * bits)) & ((1 << bits) - 1) for place in range(per_byte)], axis=-1)
    return codes.reshape(-1)[:count]
