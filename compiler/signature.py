"""What a model takes and gives: no pass may change it."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from .core.drift import Drift
from .core.errors import PassError

__all__ = ["check_signature"]


def check_signature(before: ir.Model, after: ir.Model, drift: Drift) -> None:
    """Raise PassError unless inputs and outputs kept names, order, dtypes and fixed dimensions, and no open dimension became fixed.

    A lossy pass may change dtypes, as when a quantised model takes uint8 images.
    """
    _check_values("input", before.graph.inputs, after.graph.inputs, drift)
    _check_values("output", before.graph.outputs, after.graph.outputs, drift)
    for old, new in zip(before.graph.inputs, after.graph.inputs, strict=True):
        _check_shape(old, new)


def _check_values(what: str, before: Sequence[ir.Value], after: Sequence[ir.Value], drift: Drift) -> None:
    names, now = [value.name for value in before], [value.name for value in after]
    if names != now:
        raise PassError(f"the model's {what}s were {names} and became {now}")
    for old, new in zip(before, after, strict=True):
        if drift is not Drift.LOSSY and old.dtype is not None and new.dtype is not None and old.dtype != new.dtype:
            raise PassError(f"the {what} '{old.name}' was {old.dtype} and became {new.dtype}")


def _check_shape(old: ir.Value, new: ir.Value) -> None:
    if new.shape is None:
        return
    if old.shape is None:
        raise PassError(f"the input '{old.name}' had no declared shape and got {new.shape}")
    if _fixed(old.shape) != _fixed(new.shape):
        raise PassError(f"the shape of the input '{old.name}' was {old.shape} and became {new.shape}")


def _fixed(shape: ir.Shape) -> list[int | None]:
    return [dim if isinstance(dim, int) else None for dim in shape]
