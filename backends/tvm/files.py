"""What lies in the folder of a compiled model: ``model.so``, its weights in ``model.params``, and ``model.json``, which says how to call it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...compiler.core.backend import Port
from ...compiler.core.errors import ArtifactError

if TYPE_CHECKING:
    import tvm

LIBRARY = "model.so"
WEIGHTS = "model.params"
SIGNATURE = "model.json"
ALIGNMENT = 64
"""Bytes. Generated code loads whole vectors from where a tensor starts, and a tensor that starts elsewhere ends the process."""


@dataclass(frozen=True)
class Weight:
    """A tensor of ``model.params``: where it starts, in bytes, and what it is."""

    offset: int
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Signature:
    """``model.json``: the ports in the order of the library's arguments, which the weights follow."""

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    weights: tuple[Weight, ...] = ()


def write_weights(tensors: Sequence[tvm.runtime.Tensor], path: Path) -> tuple[Weight, ...]:
    """All weights in one file, each aligned; at most one of them is copied at a time."""
    written: list[Weight] = []
    with path.open("wb") as file:
        for tensor in tensors:
            array = tensor.numpy()
            file.write(bytes(-file.tell() % ALIGNMENT))
            written.append(Weight(file.tell(), array.dtype.name, tuple(array.shape)))
            file.write(array.tobytes())
    return tuple(written)


def open_weights(folder: Path, signature: Signature) -> list[np.ndarray]:
    """The weights of a folder, mapped: pages are read when they are used. Raises ArtifactError when the file is missing or too short."""
    if not signature.weights:
        return []
    path = folder / WEIGHTS
    try:
        content = np.memmap(path, np.uint8, mode="c")
        return [_view(content, weight) for weight in signature.weights]
    except (OSError, ValueError) as error:
        raise ArtifactError(f"the weights in '{path}' cannot be read: {error}") from None


def _view(content: np.ndarray, weight: Weight) -> np.ndarray:
    size = int(np.prod(weight.shape, dtype=np.int64)) * np.dtype(weight.dtype).itemsize
    piece = np.asarray(content[weight.offset : weight.offset + size])
    return piece.view(weight.dtype).reshape(weight.shape)


def write_signature(signature: Signature, path: Path) -> None:
    """Write ``model.json``."""
    ports = {kind: [[port.name, port.dtype, port.shape] for port in getattr(signature, kind)] for kind in ("inputs", "outputs")}
    weights = [[weight.offset, weight.dtype, weight.shape] for weight in signature.weights]
    path.write_text(json.dumps({**ports, "weights": weights}) + "\n", encoding="utf-8")


def read_signature(folder: Path) -> Signature:
    """What ``model.json`` says. Raises ArtifactError when it is missing or cannot be read."""
    path = folder / SIGNATURE
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        inputs, outputs = (tuple(_port(*entry) for entry in found[kind]) for kind in ("inputs", "outputs"))
        return Signature(inputs, outputs, tuple(Weight(offset, dtype, tuple(shape)) for offset, dtype, shape in found["weights"]))
    except OSError as error:
        raise ArtifactError(f"there is no {SIGNATURE} in '{folder}': {error.strerror}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"'{path}' cannot be read ({error}). Compile again.") from None


def _port(name: str, dtype: str, shape: list[Any] | None) -> Port:
    return Port(name, dtype, None if shape is None else tuple(shape))
