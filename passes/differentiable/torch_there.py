"""Whether torch is there, and where it computes."""

from __future__ import annotations

from importlib.util import find_spec

from ...compiler.core.errors import BackendMissing

__all__ = ["device", "need_torch"]


def need_torch(what: str = "learning from a graph") -> None:
    """Raises BackendMissing when torch is not installed."""
    if find_spec("torch") is None:
        raise BackendMissing(f"{what} needs torch: pip install 'graphwright[torch]'")


def device() -> str:
    """"cuda" when torch can use a GPU, else "cpu"."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
