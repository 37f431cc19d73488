"""The modules below a folder of this package, and the classes in them that have a name by which they are asked for."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import TypeVar

from .errors import UsageError

__all__ = ["classes_below", "find_class", "modules_below"]

T = TypeVar("T")


def modules_below(folder: str) -> Iterator[ModuleType]:
    """Import and yield every module below a folder of this package, in alphabetical order."""
    package = importlib.import_module(f"graphwright.{folder}")
    yield package
    for info in sorted(pkgutil.walk_packages(package.__path__, f"{package.__name__}."), key=lambda entry: entry.name):
        yield importlib.import_module(info.name)


def classes_below(folder: str, base: type[T]) -> dict[str, type[T]]:
    """The classes of a kind in the modules below a folder that have a ``name`` of their own, by that name, in the order of the modules."""
    found: dict[str, type[T]] = {}
    for module in modules_below(folder):
        for item in vars(module).values():
            if isinstance(item, type) and issubclass(item, base) and item.__module__ == module.__name__ and "name" in vars(item):
                found[vars(item)["name"]] = item
    return found


def find_class(name: str, known: Mapping[str, type[T]], what: str) -> type[T]:
    """The class of that name. Raises UsageError when there is none; ``what`` says what was looked for, with {} for the name."""
    if name not in known:
        raise UsageError(f"there is no {what.format(repr(name))}; there are: {', '.join(sorted(known))}")
    return known[name]
