"""What a compilation depends on, as one short text for each component."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir

from .cache import hash_parts, hash_sources, machine
from .core.backend import Array, Sample
from .manifest import versions
from .serialize import skeleton, tensors_of


def components(model: ir.Model, samples: Sequence[Sample], target: str, recipe: str, options: Mapping[str, object]) -> dict[str, str]:
    """The key of a compilation: the same key promises the same artifact."""
    return {
        "graph": hash_parts([skeleton(model, max_inline=0).SerializeToString(deterministic=True)]),
        "weights": hash_weights(model),
        "inputs": hash_samples(samples),
        "passes": hash_sources(),
        "versions": ", ".join(f"{name} {version}" for name, version in versions().items()),
        "target": target,
        "recipe": recipe,
        "options": ", ".join(f"{name}={value}" for name, value in sorted(options.items())),
        "machine": machine(),
    }


def hash_weights(model: ir.Model) -> str:
    """The hash of every tensor's bytes, read in pieces from wherever they are; external data counts by its content."""
    writer = _Digest()
    for tensor in tensors_of(model):
        writer.write(f"{tensor.dtype}|{tensor.shape}|".encode())
        _write_tensor(tensor, writer)
    return writer.hexdigest()


def hash_samples(samples: Sequence[Sample]) -> str:
    """The hash of example inputs: names, dtypes, shapes and bytes."""
    return hash_parts(part for sample in samples for name in sorted(sample) for part in (name, *_parts(sample[name])))


class _Digest:
    """A file that only remembers the hash of what was written to it."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()

    def write(self, content: bytes | np.ndarray) -> int:
        """Add bytes; tensors of torch hand over nested arrays of ctypes, which hashlib refuses as they are."""
        plain = np.frombuffer(content, np.uint8).data
        self._digest.update(plain)
        return plain.nbytes

    def hexdigest(self) -> str:
        return self._digest.hexdigest()


def _write_tensor(tensor: ir.TensorProtocol, writer: _Digest) -> None:
    if tensor.dtype == ir.DataType.STRING:
        for text in np.asarray(tensor.numpy()).reshape(-1):
            writer.write(len(text).to_bytes(8, "little") + (text if isinstance(text, bytes) else str(text).encode()))
    elif hasattr(tensor, "tofile"):
        tensor.tofile(writer)
    else:
        writer.write(tensor.tobytes())


def _parts(value: Array) -> list[bytes | str]:
    if value is None:
        return ["none"]
    if isinstance(value, list):
        return ["list", str(len(value)), *(part for item in value for part in _parts(item))]
    content = value.astype(str).tolist() if value.dtype.kind in "OSU" else value.tobytes()
    return [str(value.dtype), str(value.shape), content if isinstance(content, bytes) else repr(content)]
