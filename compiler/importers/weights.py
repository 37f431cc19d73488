"""Checks on the tensors of a model file, which then all hold raw bytes or lie on disk."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import onnx
import onnx_ir as ir
from onnx import TensorProto

from ..core.errors import ModelError
from .external import CHUNK, FileTensor, byte_length

LARGEST = 1 << 46
"""Bytes; a tensor that claims more is a broken file."""
_TYPED_FIELDS = ("float_data", "int32_data", "int64_data", "double_data", "uint64_data")
_FIELD_OF = {
    "FLOAT": "float_data", "COMPLEX64": "float_data", "DOUBLE": "double_data", "COMPLEX128": "double_data", "INT64": "int64_data",
    "UINT64": "uint64_data", "UINT32": "uint64_data",
}  # fmt: skip
_COMPLEX = (ir.DataType.COMPLEX64, ir.DataType.COMPLEX128)
_SUBBYTE = (2, 4)


def check_dims(what: str, dims: tuple[int, ...], itemsize: int = 1) -> None:
    """Raise ModelError unless ``dims`` is a shape that a machine can hold. ``what`` is how the message calls the tensor."""
    if any(dim < 0 for dim in dims):
        raise ModelError(f"{what} has the shape {list(dims)[:8]}, with a negative dimension")
    if len(dims) > 64 or math.prod(max(dim, 1) for dim in dims) * itemsize > LARGEST:
        raise ModelError(f"{what} has the shape {list(dims)[:8]}, larger than any memory: the file is broken")


def dtype_of(what: str, number: int) -> ir.DataType:
    """The dtype of an ONNX type number. Raises ModelError when there is none."""
    try:
        dtype = ir.DataType(number)
    except ValueError:
        dtype = ir.DataType.UNDEFINED
    if dtype == ir.DataType.UNDEFINED:
        raise ModelError(f"{what} has the data type {number}, which ONNX does not have")
    return dtype


def settle(tensor: TensorProto, what: str) -> None:
    """Check one tensor of a model file, and turn typed data into raw bytes in place. Raises ModelError when data and shape disagree."""
    dtype = dtype_of(what, tensor.data_type)
    shape = tuple(tensor.dims)
    if dtype == ir.DataType.STRING:
        check_dims(what, shape)
        _check_strings(tensor, what, math.prod(shape))
        return
    check_dims(what, shape, -(-dtype.bitwidth // 8))
    if tensor.HasField("segment"):
        raise ModelError(f"{what} is stored in segments, which nothing reads: export the model again")
    if tensor.data_location == TensorProto.EXTERNAL:
        _drop_inline_data(tensor)
        return
    tensor.ClearField("data_location")
    tensor.ClearField("external_data")
    filled = [field for field in (*_TYPED_FIELDS, "string_data") if len(getattr(tensor, field))]
    if tensor.HasField("raw_data") and not filled:
        _check_length(what, dtype, shape, len(tensor.raw_data))
        return
    if tensor.HasField("raw_data") and len(tensor.raw_data):
        raise ModelError(f"{what} holds its data twice, as raw_data and as {filled[0]}")
    tensor.ClearField("raw_data")
    _pack(tensor, what, dtype, shape, filled)


def _drop_inline_data(tensor: TensorProto) -> None:
    for field in ("raw_data", "string_data", *_TYPED_FIELDS):
        tensor.ClearField(field)


def _check_strings(tensor: TensorProto, what: str, count: int) -> None:
    if tensor.data_location == TensorProto.EXTERNAL:
        raise ModelError(f"{what} holds texts in an external file, which ONNX does not allow")
    if tensor.HasField("raw_data") or len(tensor.string_data) != count:
        raise ModelError(f"{what} has the shape {list(tensor.dims)}, but holds {len(tensor.string_data)} texts")


def _check_length(what: str, dtype: ir.DataType, shape: tuple[int, ...], length: int) -> None:
    needed = byte_length(dtype, shape)
    if length != needed:
        raise ModelError(f"{what} takes {needed:,} bytes ({dtype.name} {list(shape)}), but holds {length:,}: the file is broken")


def _pack(tensor: TensorProto, what: str, dtype: ir.DataType, shape: tuple[int, ...], filled: list[str]) -> None:
    field = _FIELD_OF.get(dtype.name, "int32_data")
    wrong = [other for other in filled if other != field]
    if wrong:
        raise ModelError(f"{what} is {dtype.name}, whose data is in {field}, but it has data in {wrong[0]}")
    count, held = math.prod(shape), len(getattr(tensor, field))
    needed = -(-count * dtype.bitwidth // 8) if dtype.bitwidth in _SUBBYTE else count * (2 if dtype in _COMPLEX else 1)
    if held != needed:
        raise ModelError(f"{what} has the shape {list(shape)}, which takes {needed:,} numbers, but holds {held:,}: the file is broken")
    raw = _raw_bytes(tensor, what)
    for other in _TYPED_FIELDS:
        tensor.ClearField(other)
    tensor.raw_data = raw


def _raw_bytes(tensor: TensorProto, what: str) -> bytes:
    try:
        return ir.serde.TensorProtoTensor(tensor).tobytes()
    except Exception as error:
        raise ModelError(f"{what} cannot be read: {error}") from error


def dense(sparse: onnx.SparseTensorProto, what: str) -> TensorProto:
    """A sparse tensor written out, as ONNX Runtime does. Raises ModelError when its indices do not fit."""
    shape = tuple(sparse.dims)
    check_dims(what, shape)
    settle(sparse.values, f"the values of {what}")
    settle(sparse.indices, f"the indices of {what}")
    if TensorProto.EXTERNAL in (sparse.values.data_location, sparse.indices.data_location) or sparse.values.data_type == TensorProto.STRING:
        raise ModelError(f"{what} is a sparse tensor of texts or in an external file, which is not supported")
    if math.prod(shape) > 1 << 28:
        raise ModelError(f"{what} is a sparse tensor of {math.prod(shape):,} elements, too many to write out: store it dense, in an external file")
    values = ir.serde.TensorProtoTensor(sparse.values)
    if sparse.indices.data_type != TensorProto.INT64 or values.shape.rank() != 1:
        raise ModelError(f"{what} is a broken sparse tensor: its indices must be INT64 and its values a vector")
    if values.dtype.bitwidth < 8:
        raise ModelError(f"{what} is a sparse tensor of {values.dtype.name}, which is not supported")
    full = np.zeros(math.prod(shape), dtype=values.numpy().dtype)
    full[_flat_indices(sparse, what, shape, values.size)] = values.numpy()
    return TensorProto(name=sparse.values.name, data_type=sparse.values.data_type, dims=shape, raw_data=full.tobytes())


def _flat_indices(sparse: onnx.SparseTensorProto, what: str, shape: tuple[int, ...], count: int) -> np.ndarray:
    indices = ir.serde.TensorProtoTensor(sparse.indices).numpy()
    if indices.shape == (count,):
        bounds, rows = np.array([math.prod(shape)]), indices[:, None]
    elif indices.shape == (count, len(shape)):
        bounds, rows = np.array(shape), indices
    else:
        raise ModelError(f"{what} is a broken sparse tensor: {count} values with indices of the shape {list(indices.shape)}")
    if ((rows < 0) | (rows >= bounds)).any():
        raise ModelError(f"{what} is a broken sparse tensor: an index lies outside its shape {list(shape)}")
    return indices if indices.ndim == 1 else np.ravel_multi_index(tuple(indices.T), shape) if count else indices[:, 0]


def has_nan(tensor: ir.TensorProtocol) -> bool:
    """Whether a float tensor holds a NaN; its data is looked at piece by piece."""
    test = _NAN_TESTS.get(tensor.dtype)
    if test is None or tensor.size == 0:
        return False
    return any(test(np.frombuffer(piece, dtype=_BITS[tensor.dtype])) for piece in _pieces(tensor))


def _pieces(tensor: ir.TensorProtocol) -> Iterator[memoryview]:
    if isinstance(tensor, FileTensor):
        yield from tensor.chunks()
        return
    content = memoryview(tensor.tobytes())
    for start in range(0, len(content), CHUNK):
        yield content[start : start + CHUNK]


def _float_nan(values: np.ndarray) -> bool:
    return bool(np.isnan(values.min()))


def _half_nan(bits: np.ndarray) -> bool:
    return bool((bits & 0x7FFF).max() > 0x7C00)


def _bfloat_nan(bits: np.ndarray) -> bool:
    return bool((bits & 0x7FFF).max() > 0x7F80)


_NAN_TESTS = {ir.DataType.FLOAT: _float_nan, ir.DataType.DOUBLE: _float_nan, ir.DataType.FLOAT16: _half_nan, ir.DataType.BFLOAT16: _bfloat_nan}
_BITS = {ir.DataType.FLOAT: "<f4", ir.DataType.DOUBLE: "<f8", ir.DataType.FLOAT16: "<u2", ir.DataType.BFLOAT16: "<u2"}
