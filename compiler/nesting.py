"""How values nest: lists, tuples and dicts around a flat list of leaves, kept as JSON so that a loaded artifact answers in the same form."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any


class _Leaf:
    """Stands for one output while the nesting is read off."""

    def __init__(self, position: int) -> None:
        self.position = position


def describe(restore: Callable[[list[Any]], object], count: int) -> object:
    """The nesting that ``restore`` gives ``count`` leaves, as JSON; None when it is not made of lists, tuples, dicts and constants."""
    try:
        return _describe(restore([_Leaf(position) for position in range(count)]))
    except (TypeError, ValueError, AttributeError):
        return None


def rebuild(structure: object, leaves: Sequence[object]) -> object:
    """Put ``leaves`` back in the form that `describe` saw."""
    if not isinstance(structure, Mapping):
        raise ValueError(f"{structure!r} describes no nesting")
    if "leaf" in structure:
        return leaves[structure["leaf"]]
    if "dict" in structure:
        return {key: rebuild(item, leaves) for key, item in structure["dict"]}
    if "list" in structure:
        return [rebuild(item, leaves) for item in structure["list"]]
    if "tuple" in structure:
        return tuple(rebuild(item, leaves) for item in structure["tuple"])
    return structure["constant"]


def flatten(values: object) -> Iterator[object]:
    """The leaves of lists, tuples and dicts, in order; None is a leaf."""
    if isinstance(values, Mapping):
        for item in values.values():
            yield from flatten(item)
    elif isinstance(values, (list, tuple)):
        for item in values:
            yield from flatten(item)
    else:
        yield values


def _describe(value: object) -> dict[str, object]:
    if isinstance(value, _Leaf):
        return {"leaf": value.position}
    if isinstance(value, Mapping):
        if not all(isinstance(key, (str, int)) for key in value):
            raise TypeError("only texts and numbers can be kept as keys")
        return {"dict": [[key, _describe(item)] for key, item in value.items()]}
    if isinstance(value, list):
        return {"list": [_describe(item) for item in value]}
    if isinstance(value, tuple):
        return {"tuple": [_describe(item) for item in value]}
    if value is None or isinstance(value, (bool, int, float, str)):
        return {"constant": value}
    raise TypeError(f"{type(value).__name__} cannot be kept")
