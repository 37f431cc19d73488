"""Checks what a model is fed, and says in a clear word when it does not fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from .backend import Array, Port
from .elements import ELEMENTS, Type, parse_type
from .errors import InputError


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
