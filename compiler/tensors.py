"""Between torch tensors and arrays. torch itself is never imported: who has a tensor has it loaded."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from types import ModuleType
from typing import TYPE_CHECKING, TypeGuard

import ml_dtypes
import numpy as np

if TYPE_CHECKING:
    import torch

    from .core.backend import Array, Sample

SHARED_BITS = {"bfloat16": np.int16, "float8_e4m3fn": np.uint8, "float8_e5m2": np.uint8, "float8_e4m3fnuz": np.uint8, "float8_e5m2fnuz": np.uint8}
"""dtypes that torch and ml_dtypes both have but numpy has not, and the integer that carries their bits."""


def device_of(leaves: Iterable[object]) -> torch.device | None:
    """The device of the first torch tensor; None when there is none."""
    return next((leaf.device for leaf in leaves if _is_tensor(leaf)), None)


def sample_to_numpy(feeds: Mapping[str, object]) -> Sample:
    """Feeds with every tensor, number and nested list as arrays; lists stay lists (sequences), None stays None (an empty optional)."""
    return {name: to_numpy(value) for name, value in feeds.items()}


def to_numpy(value: object) -> Array:
    """A tensor, array, number or list of them as the runtime takes it."""
    if value is None:
        return None
    if isinstance(value, list) and any(_is_tensor(item) or isinstance(item, np.ndarray) for item in value):
        return [to_numpy(item) for item in value]
    if not _is_tensor(value):
        return np.asarray(value)
    tensor = value.detach().cpu().contiguous()
    name = str(tensor.dtype).removeprefix("torch.")
    if name not in SHARED_BITS:
        return tensor.numpy()
    bits = getattr(_torch(), np.dtype(SHARED_BITS[name]).name)
    return tensor.view(bits).numpy().view(getattr(ml_dtypes, name))


def to_torch(value: object, device: torch.device) -> object:
    """An array (or a list of arrays) as a tensor on ``device``; texts stay arrays."""
    if isinstance(value, list):
        return [to_torch(item, device) for item in value]
    torch = _torch()
    if torch is None or not isinstance(value, np.ndarray) or value.dtype.kind in "OSU":
        return value
    name = value.dtype.name
    if name in SHARED_BITS:
        return torch.from_numpy(np.require(value, requirements=["C", "W"]).view(SHARED_BITS[name])).view(getattr(torch, name)).to(device)
    return torch.from_numpy(np.require(value, requirements=["C", "W"])).to(device)


def _is_tensor(value: object) -> TypeGuard[torch.Tensor]:
    torch = _torch()
    return torch is not None and isinstance(value, torch.Tensor)


def _torch() -> ModuleType | None:
    return sys.modules.get("torch")
