"""Samples as .npz files: any name, any element type, sequences and absent optionals."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from .core.backend import Array, Sample
from .core.errors import InputError

__all__ = ["load_sample", "save_sample"]

_BITS = {1: np.uint8, 2: np.uint16}


def save_sample(path: Path, sample: Mapping[str, Array]) -> list[dict[str, object]]:
    """Write the arrays; returns, for `load_sample`, what the file cannot say itself."""
    arrays: dict[str, np.ndarray] = {}
    entries: list[dict[str, object]] = []
    for name, value in sample.items():
        parts = value if isinstance(value, list) else [] if value is None else [value]
        keys = [f"{len(arrays) + place}" for place in range(len(parts))]
        dtypes = [np.asarray(part).dtype.name for part in parts]
        arrays |= {key: _plain(np.asarray(part)) for key, part in zip(keys, parts, strict=True)}
        kind = "sequence" if isinstance(value, list) else "absent" if value is None else "array"
        entries.append({"name": name, "kind": kind, "keys": keys, "dtypes": dtypes})
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return entries


def load_sample(path: Path, entries: list[dict[str, object]]) -> Sample:
    """Read what `save_sample` wrote. Raises InputError when the file is missing or not one of those."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return {str(entry["name"]): _value(file, entry) for entry in entries}
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"cannot read the inputs in '{path}': {error}") from None


def _value(file: Mapping[str, np.ndarray], entry: Mapping[str, object]) -> Array:
    parts = [_typed(file[key], dtype) for key, dtype in zip(entry["keys"], entry["dtypes"], strict=True)]  # type: ignore[call-overload]
    if entry["kind"] == "sequence":
        return parts
    return parts[0] if parts else None


def _plain(array: np.ndarray) -> np.ndarray:
    """What numpy can store without help: texts as unicode, foreign floats as their bits."""
    if array.dtype.kind == "O":
        return array.astype(str)
    return array.view(_BITS[array.dtype.itemsize]) if array.dtype.kind == "V" else array


def _typed(array: np.ndarray, dtype: str) -> np.ndarray:
    if dtype == "object":
        return array.astype(object)
    if dtype == array.dtype.name or array.dtype.kind == "U":
        return array
    import ml_dtypes

    return array.view(getattr(ml_dtypes, dtype))
