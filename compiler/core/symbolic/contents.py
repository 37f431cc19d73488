"""What is known about the numbers in small integer tensors.

A content is an array of Python ints and symbols (booleans as 0 and 1) with the tensor's own shape; `UNKNOWN` stands where a number is not known.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import onnx_ir as ir

from ..dims import Dim
from ..graph import constant

Content: TypeAlias = np.ndarray[Any, np.dtype[np.object_]]

MOST_ELEMENTS = 256
LIMITS = {ir.DataType.INT64: 2**63, ir.DataType.INT32: 2**31, ir.DataType.BOOL: 2}
"""The types that contents are kept of, and the first number above what each holds."""
_KEY = "known_ints"


def content(value: ir.Value | None) -> Content | None:
    """The content of ``value``, if it is a small integer or boolean tensor of which anything is known."""
    if value is None or value.dtype not in LIMITS:
        return None
    if _KEY not in value.meta:
        value.meta[_KEY] = _of_constant(value)
    known: Content | None = value.meta[_KEY]
    return known


def note_content(value: ir.Value, known: Content | None) -> None:
    """Remember what a value holds."""
    value.meta[_KEY] = known


def forget_content(value: ir.Value) -> None:
    """Let the content be worked out again."""
    value.meta.pop(_KEY, None)


def _of_constant(value: ir.Value) -> Content | None:
    tensor = constant(value)
    return None if tensor is None or tensor.size > MOST_ELEMENTS else objects(tensor.numpy())


def objects(array: np.ndarray) -> Content:
    """An array of numbers as one of Python ints."""
    result = np.empty(array.shape, dtype=object)
    result.reshape(-1)[:] = [int(item) for item in array.reshape(-1)]
    return result


def vector(items: Sequence[Dim]) -> Content:
    """A one-dimensional content."""
    result = np.empty(len(items), dtype=object)
    result[:] = list(items)
    return result


def single(item: Dim) -> Content:
    """A content without dimensions."""
    result = np.empty((), dtype=object)
    result[()] = item
    return result


def only(known: Content | None) -> Dim | None:
    """The one item of a content of size 1, else None."""
    if known is None or known.size != 1:
        return None
    item: Dim = known.reshape(-1)[0]
    return item


def numbers(known: Content | None) -> np.ndarray | None:
    """A content without symbols as an integer array."""
    if known is None or not all(isinstance(item, int) for item in known.flat):
        return None
    return known.astype(np.int64)
