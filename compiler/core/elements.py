"""Element types and values as ports name them, in ONNX Runtime's words: "tensor(float)", "seq(tensor(int64))", "optional(tensor(float))"."""

from __future__ import annotations

from dataclasses import dataclass

import ml_dtypes
import numpy as np
from onnx import TensorProto

ELEMENTS: dict[str, tuple[int, np.dtype]] = {
    "float": (TensorProto.FLOAT, np.dtype(np.float32)),
    "double": (TensorProto.DOUBLE, np.dtype(np.float64)),
    "float16": (TensorProto.FLOAT16, np.dtype(np.float16)),
    "bfloat16": (TensorProto.BFLOAT16, np.dtype(ml_dtypes.bfloat16)),
    "int8": (TensorProto.INT8, np.dtype(np.int8)),
    "int16": (TensorProto.INT16, np.dtype(np.int16)),
    "int32": (TensorProto.INT32, np.dtype(np.int32)),
    "int64": (TensorProto.INT64, np.dtype(np.int64)),
    "uint8": (TensorProto.UINT8, np.dtype(np.uint8)),
    "uint16": (TensorProto.UINT16, np.dtype(np.uint16)),
    "uint32": (TensorProto.UINT32, np.dtype(np.uint32)),
    "uint64": (TensorProto.UINT64, np.dtype(np.uint64)),
    "bool": (TensorProto.BOOL, np.dtype(np.bool_)),
    "string": (TensorProto.STRING, np.dtype(object)),
    "complex64": (TensorProto.COMPLEX64, np.dtype(np.complex64)),
    "complex128": (TensorProto.COMPLEX128, np.dtype(np.complex128)),
    "float8e4m3fn": (TensorProto.FLOAT8E4M3FN, np.dtype(ml_dtypes.float8_e4m3fn)),
    "float8e4m3fnuz": (TensorProto.FLOAT8E4M3FNUZ, np.dtype(ml_dtypes.float8_e4m3fnuz)),
    "float8e5m2": (TensorProto.FLOAT8E5M2, np.dtype(ml_dtypes.float8_e5m2)),
    "float8e5m2fnuz": (TensorProto.FLOAT8E5M2FNUZ, np.dtype(ml_dtypes.float8_e5m2fnuz)),
    "float8e8m0": (TensorProto.FLOAT8E8M0, np.dtype(ml_dtypes.float8_e8m0fnu)),
    "float4e2m1": (TensorProto.FLOAT4E2M1, np.dtype(ml_dtypes.float4_e2m1fn)),
    "int4": (TensorProto.INT4, np.dtype(ml_dtypes.int4)),
    "uint4": (TensorProto.UINT4, np.dtype(ml_dtypes.uint4)),
    "int2": (TensorProto.INT2, np.dtype(ml_dtypes.int2)),
    "uint2": (TensorProto.UINT2, np.dtype(ml_dtypes.uint2)),
}
"""The name of an element type -> ONNX's number, and the dtype of arrays that hold it."""
NAMES = {number: name for name, (number, _) in ELEMENTS.items()}
FOREIGN = frozenset(name for name, (_, dtype) in ELEMENTS.items() if dtype.type.__module__ == "ml_dtypes")
"""Element types that numpy has not, so that runtimes do not take or give them as arrays."""


@dataclass(frozen=True)
class Type:
    """A parsed type: ``kind`` tensor, seq, optional, map or sparse_tensor; of ``element``, or of ``inner``."""

    kind: str
    element: str = ""
    inner: Type | None = None

    @property
    def is_foreign(self) -> bool:
        """Whether it holds an element type that numpy has not."""
        return self.inner.is_foreign if self.inner is not None else self.element in FOREIGN


def parse_type(text: str) -> Type:
    """ "seq(tensor(float))" taken apart."""
    kind, _, rest = text.partition("(")
    inside = rest[:-1]
    if kind in ("seq", "optional"):
        return Type(kind, inner=parse_type(inside))
    return Type(kind, element=inside)
