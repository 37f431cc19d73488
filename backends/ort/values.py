"""Arrays as ONNX Runtime takes and gives them, and a clear word when they do not fit."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Mapping, Sequence

import numpy as np
import onnxruntime as ort

from ...compiler.core.backend import Array, Port
from ...compiler.core.errors import InputError, TargetError
from .ports import ELEMENTS, Type, parse_type

PACKED_BITS = {"int4": 4, "uint4": 4, "float4e2m1": 4, "int2": 2, "uint2": 2}
"""Element types of less than a byte, which ONNX Runtime packs and arrays do not."""
FOREIGN_TYPES = "bfloat16, float8 or int4"


class Intake:
    """Checks feeds against the inputs of a model; ``optional`` ones (initialisers that a caller may override) can be left out."""

    def __init__(self, required: Sequence[Port], optional: Sequence[Port] = ()) -> None:
        self._types = {port.name: (port, parse_type(port.dtype)) for port in (*required, *optional)}
        self._required = [port.name for port in required]
        self._native = [(port.name, _native_dtype(port)) for port in required]

    def takes_as_they_are(self, feeds: dict[str, Array]) -> bool:
        """Whether the feeds are just the required inputs, arrays of the declared dtypes, of which only the shapes are still to be checked.

        Models of a fraction of a millisecond notice how long their feeds are looked at.
        """
        if len(feeds) != len(self._native):
            return False
        for name, dtype in self._native:
            value = feeds.get(name)
            if type(value) is not np.ndarray or value.dtype is not dtype:
                return False
        return True

    def checked(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """The feeds as contiguous arrays of exactly the declared dtypes. Raises InputError saying what was expected and what was got."""
        for name in self._required:
            if name not in feeds:
                raise InputError(f"the input '{name}' is missing: the model takes {self._signature()}")
        ready: dict[str, Array] = {}
        for name, value in feeds.items():
            if name not in self._types:
                raise InputError(f"the model has no input '{name}': it takes {self._signature()}")
            ready[name] = _fitted(*self._types[name], value)
        return ready

    def _signature(self) -> str:
        return ", ".join(describe(port) for port, _ in self._types.values()) or "no inputs"


def _native_dtype(port: Port) -> np.dtype | None:
    """The dtype of a tensor of numbers; None for anything else."""
    kind = parse_type(port.dtype)
    return ELEMENTS[kind.element][1] if kind.kind == "tensor" and kind.element in ELEMENTS and kind.element != "string" else None


def describe(port: Port) -> str:
    """'x' tensor(float) [batch, 3]"""
    shape = "" if port.shape is None else f" [{', '.join('?' if dim is None else str(dim) for dim in port.shape)}]"
    return f"'{port.name}' {port.dtype}{shape}"


def _fitted(port: Port, kind: Type, value: Array) -> Array:
    if kind.kind == "optional" and kind.inner is not None:
        return None if value is None else _fitted(port, kind.inner, value)
    if kind.kind == "seq" and kind.inner is not None:
        if not isinstance(value, (list, tuple)):
            raise InputError(f"the input {describe(port)} is a sequence: give a list of arrays, not {_what(value)}")
        element = Port(port.name, port.dtype, None)
        return [_fitted(element, kind.inner, item) for item in value]
    if kind.kind != "tensor":
        return value
    return _tensor(port, kind.element, value)


def _tensor(port: Port, element: str, value: object) -> np.ndarray:
    if not isinstance(value, (np.ndarray, np.generic)):
        raise InputError(f"the input {describe(port)} takes an array, not {_what(value)}")
    array = np.asarray(value, order="C")
    if element == "string":
        array = _texts(port, array)
    elif element not in ELEMENTS or array.dtype != ELEMENTS[element][1]:
        raise InputError(f"the input {describe(port)} takes {_dtype_name(element)}, but was given {_what(array)}")
    _check_shape(port, array)
    return array


def _texts(port: Port, array: np.ndarray) -> np.ndarray:
    if array.dtype.kind in "UT" or (array.dtype.kind == "O" and all(isinstance(text, str) for text in array.flat)):
        return array.astype(object)
    raise InputError(f"the input {describe(port)} takes texts (str), but was given {_what(array)}")


def _check_shape(port: Port, array: np.ndarray) -> None:
    if port.shape is None:
        return
    fits = len(port.shape) == array.ndim and all(not isinstance(dim, int) or dim == size for dim, size in zip(port.shape, array.shape, strict=True))
    if not fits:
        raise InputError(f"the input {describe(port)} was given the shape {list(array.shape)}")


def _dtype_name(element: str) -> str:
    return ELEMENTS[element][1].name if element in ELEMENTS else element


def _what(value: object) -> str:
    if isinstance(value, np.ndarray):
        order = "" if value.dtype.isnative else " of the other byte order"
        return f"{value.dtype.name}{order} {list(value.shape)}"
    return "nothing" if value is None else f"a {type(value).__name__}"


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
