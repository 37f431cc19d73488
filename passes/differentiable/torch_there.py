"""Whether torch is there, and where it computes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from importlib.util import find_spec

from ...compiler.core.errors import BackendMissing

__all__ = ["device", "full_precision", "need_torch"]


def need_torch(what: str = "learning from a graph") -> None:
    """Raises BackendMissing when torch is not installed."""
    if find_spec("torch") is None:
        raise BackendMissing(f"{what} needs torch: pip install 'graphwright[torch]'")


def device() -> str:
    """"cuda" when torch can use a GPU, else "cpu"."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


@contextlib.contextmanager
def full_precision() -> Iterator[None]:
    """float32 means float32 on a GPU as well: by default its convolutions round their factors to 10 bits."""
    import torch

    with torch.backends.cudnn.flags(enabled=torch.backends.cudnn.enabled, benchmark=torch.backends.cudnn.benchmark, allow_tf32=False):
        yield
