"""Kernels timed against each other on this machine, kept from one compilation to the next.

One line of JSON for each pair, only ever added to: several processes may write at once, the first line of a key counts, and what is broken is skipped.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir

from .cache import KERNELS, hash_parts, open_cache
from .core.graph import constant
from .piece_samples import Sizes, sized

__all__ = ["KernelTable", "Timing", "open_table", "piece_key"]

GAIN = 0.02
"""A replacement must be this much faster: by how its memory happens to lie, a session can be better than another of the same model."""
MOST_SPELLED = 64
"""Constants up to this many elements are part of what is timed: a Pow by 2 is another kernel than a Pow by 3."""


@dataclass(frozen=True)
class Timing:
    """A piece (``before``) and its replacement timed in turns: milliseconds, and the ratio after / before with its 95 % interval."""

    rule: str
    shapes: tuple[str, ...]
    before_ms: float
    after_ms: float
    ratio: float
    low: float
    high: float
    chosen: bool = False

    @property
    def gains(self) -> bool:
        """Whether the replacement is faster beyond doubt, and by enough to matter."""
        return self.high < 1.0 and self.ratio <= 1.0 - GAIN


class KernelTable:
    """Timings by key, in a file (None: in memory only)."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._known = _read(path) if path is not None else {}

    def find(self, key: str) -> Timing | None:
        """What was measured for a key."""
        return self._known.get(key)

    def add(self, key: str, timing: Timing) -> None:
        """Remember a measurement; a table that cannot be written forgets it with the process."""
        if key in self._known:
            return
        self._known[key] = timing
        if self._path is None:
            return
        line = json.dumps({"key": key, **dataclasses.asdict(timing)}) + "\n"
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a", encoding="utf-8") as file:
                file.write(line)


def open_table() -> KernelTable:
    """The table beside the user's cache; one in memory when the cache is switched off."""
    cache = open_cache()
    return KernelTable(cache.folder / KERNELS if cache is not None else None)


def piece_key(piece: ir.Model, sizes: Sequence[Sizes]) -> str:
    """What a piece runs and at which sizes, whatever its values are called. Raises Unsized.

    The order of operands does not count: rules match commuted operands both ways, and a kernel takes as long either way.
    """
    numbers: dict[ir.Value, str] = {}
    parts: list[str] = []
    for value in piece.graph.inputs:
        numbers[value] = f"i{len(numbers)}"
        parts.append(f"{value.dtype} {[sized(value, each) for each in sizes]}")
    for node in piece.graph:
        reads = sorted("" if value is None else numbers.get(value) or _constant(value) for value in node.inputs)
        for value in node.outputs:
            numbers[value] = f"v{len(numbers)}"
        attributes = sorted(f"{attr.name}={_attribute(attr)}" for attr in node.attributes.values())
        parts.append(f"{node.domain}::{node.op_type}({', '.join(reads)}) {attributes}")
    parts.append(" ".join(numbers.get(value, "") for value in piece.graph.outputs))
    return hash_parts(parts)


def _constant(value: ir.Value) -> str:
    tensor = constant(value)
    if tensor is None:
        return "?"
    shape = list(tensor.shape.numpy())
    return f"{tensor.dtype}{shape}" + (repr(np.asarray(tensor.numpy()).tolist()) if tensor.size <= MOST_SPELLED else "")


def _attribute(attr: ir.Attr) -> str:
    if attr.type is ir.AttributeType.TENSOR:
        tensor = attr.as_tensor()
        return hash_parts([str(tensor.dtype), str(list(tensor.shape.numpy())), tensor.tobytes()])
    return repr(attr.value)


def _read(path: Path) -> dict[str, Timing]:
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return {}
    known: dict[str, Timing] = {}
    for line in lines:
        with contextlib.suppress(ValueError, TypeError, KeyError):
            record = json.loads(line)
            key = str(record.pop("key"))
            known.setdefault(key, Timing(**{**record, "shapes": tuple(record["shapes"])}))
    return known
