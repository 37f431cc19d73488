"""Resize: each output element is a weighted sum of input elements along each axis that changes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from .call import Call, Operators, numbers

if TYPE_CHECKING:
    import torch

__all__ = ["operators"]


def operators() -> Operators:
    """By operator type."""

    def resize(call: Call, x: torch.Tensor, *rest: torch.Tensor | None) -> torch.Tensor:
        region, scales, sizes = (None, *rest, None, None)[:3] if call.version < 11 else (*rest, None, None, None)[:3]
        factors, wanted, axes = _factors(call, x, scales, sizes)
        if call.whole("antialias") and any(factor < 1 for factor in factors):
            raise call.refuse("antialias")
        del region
        for axis, factor, size in zip(axes, factors, wanted, strict=True):
            if size != x.shape[axis] or factor != 1.0:
                x = _along(call, x, axis, factor, size)
        return x

    def upsample(call: Call, x: torch.Tensor, scales: torch.Tensor | None = None) -> torch.Tensor:
        factors = [float(item) for item in scales.reshape(-1).tolist()] if scales is not None else _reals(call, "scales")
        for axis, factor in enumerate(factors):
            x = _along(call, x, axis, factor, math.floor(x.shape[axis] * factor), "asymmetric")
        return x

    return {"Resize": resize, "Upsample": upsample}


def _reals(call: Call, name: str) -> list[float]:
    return [float(item) for item in call.node.attributes[name].value]


def _factors(call: Call, x: torch.Tensor, scales: torch.Tensor | None, sizes: torch.Tensor | None) -> tuple[list[float], list[int], list[int]]:
    """How much longer each axis gets, how long it is then, and which axes these are."""
    axes = [axis % x.ndim for axis in call.wholes("axes")] if call.given("axes") else list(range(x.ndim))
    if scales is not None and scales.numel():
        factors = [float(item) for item in scales.reshape(-1).tolist()]
        return factors, [math.floor(x.shape[axis] * factor) for axis, factor in zip(axes, factors, strict=True)], axes
    wanted, policy = numbers(sizes), call.text("keep_aspect_ratio_policy", "stretch")
    factors = [size / x.shape[axis] for axis, size in zip(axes, wanted, strict=True)]
    if policy != "stretch":
        factor = min(factors) if policy == "not_larger" else max(factors)
        return [factor] * len(axes), [math.floor(x.shape[axis] * factor + 0.5) for axis in axes], axes
    return factors, wanted, axes


def _along(call: Call, x: torch.Tensor, axis: int, factor: float, size: int, where: str | None = None) -> torch.Tensor:
    """One axis resized: a product with a matrix, or a selection."""
    import torch

    length = x.shape[axis]
    places = _places(call, length, size, factor, where or call.text("coordinate_transformation_mode", "half_pixel" if call.version >= 11 else "asymmetric"))
    mode = call.text("mode", "nearest")
    if mode == "nearest":
        chosen = np.clip(_nearest(call, places, factor, where is not None), 0, length - 1)
        return x.index_select(axis, torch.from_numpy(chosen).to(x.device))
    if mode not in ("linear", "cubic"):
        raise call.refuse(f"the mode '{mode}'")
    weights = np.zeros((size, length))
    taps = _linear(places) if mode == "linear" else _cubic(places, call.number("cubic_coeff_a", -0.75))
    outside = mode == "cubic" and bool(call.whole("exclude_outside"))
    for offset, share in taps:
        index = np.floor(places).astype(np.int64) + offset
        kept = share * ((index >= 0) & (index < length)) if outside else share
        np.add.at(weights, (np.arange(size), np.clip(index, 0, length - 1)), kept)
    if outside:
        weights /= weights.sum(axis=1, keepdims=True)
    matrix = torch.from_numpy(weights).to(x.device, x.dtype)
    return (x.movedim(axis, -1) @ matrix.T).movedim(-1, axis)


def _places(call: Call, length: int, size: int, factor: float, where: str) -> np.ndarray:
    """Where each output element lies among the input's."""
    index = np.arange(size, dtype=np.float64)
    if where == "asymmetric":
        return index / factor
    if where == "align_corners":
        return index * (length - 1) / (size - 1) if size > 1 else index * 0
    if where == "pytorch_half_pixel" and size == 1:
        return index * 0
    if where in ("half_pixel", "pytorch_half_pixel"):
        return (index + 0.5) / factor - 0.5
    if where == "half_pixel_symmetric":
        middle = length / 2 * (1 - size / (factor * length))
        return middle + (index + 0.5) / factor - 0.5
    raise call.refuse(f"the coordinates '{where}'")


def _nearest(call: Call, places: np.ndarray, factor: float, plain: bool) -> np.ndarray:
    how = "floor" if plain or call.version < 11 else call.text("nearest_mode", "round_prefer_floor")
    if how == "floor":
        return np.floor(places).astype(np.int64)
    if how == "ceil":
        return np.ceil(places).astype(np.int64)
    half = np.ceil(places - 0.5) if how == "round_prefer_floor" else np.floor(places + 0.5)
    return np.asarray(half, np.int64)


def _linear(places: np.ndarray) -> Sequence[tuple[int, np.ndarray]]:
    rest = places - np.floor(places)
    return [(0, 1 - rest), (1, rest)]


def _cubic(places: np.ndarray, a: float) -> Sequence[tuple[int, np.ndarray]]:
    """Keys, "Cubic Convolution Interpolation for Digital Image Processing", 1981, equation 15 with its constant left open."""
    rest = places - np.floor(places)

    def near(t: np.ndarray) -> np.ndarray:
        return ((a + 2) * t - (a + 3)) * t * t + 1

    def far(t: np.ndarray) -> np.ndarray:
        return ((a * t - 5 * a) * t + 8 * a) * t - 4 * a

    return [(-1, far(rest + 1)), (0, near(rest)), (1, near(1 - rest)), (2, far(2 - rest))]
