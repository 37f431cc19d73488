"""Whether two models' outputs agree: arrays, and what sequences, maps and optionals hold."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Mapping

import numpy as np

from .core.backend import Array
from .core.drift import Drift
from .core.records import Difference
from .tolerance import QUIET, Noise, Stress, difference

__all__ = ["Outputs", "compare", "compare_output", "leaves", "worse"]

Outputs = Mapping[str, Array]
"""Output name -> array, list (a sequence), dict (a map) or None (an empty optional)."""


def compare(
    reference: Outputs,
    candidate: Outputs,
    drift: Drift,
    *,
    noise: Mapping[str, Noise] | None = None,
    growth: Mapping[str, float] | None = None,
    stress: Stress | None = None,
    sample: int = 0,
) -> Difference:
    """The worst difference between two models' outputs; its ``broken`` says whether the contract was broken.

    ``noise`` and ``growth`` are what rounding does to each output (`rounding`, `tolerance`); without them only a few roundings are allowed.
    """
    if list(reference) != list(candidate):
        missing = [name for name in reference if name not in candidate] or list(candidate)
        reason = f"the outputs were {list(reference)} and became {list(candidate)}"
        return Difference(missing[0], np.inf, np.inf, 0.0, sample=sample, broken=True, reason=reason)
    worst = Difference("", 0.0, 0.0, 0.0, sample=sample)
    for name, before in reference.items():
        worst = worse(worst, compare_output(name, before, candidate[name], drift, noise or {}, (growth or {}).get(name, 0.0), stress))
    return dataclasses.replace(worst, sample=sample)


def compare_output(name: str, before: object, after: object, drift: Drift, noise: Mapping[str, Noise], growth: float, stress: Stress | None) -> Difference:
    """`compare` of one output."""
    found = _compare_values(name, before, after, drift, noise, growth, stress)
    return functools.reduce(worse, found, Difference(name, 0.0, 0.0, 0.0))


def worse(one: Difference, other: Difference) -> Difference:
    """The one that breaks its contract, else the one that comes closer to it."""
    return max(one, other, key=lambda item: (item.broken, item.max_abs / item.allowed if item.allowed else item.max_abs))


def _compare_values(
    name: str, before: object, after: object, drift: Drift, noise: Mapping[str, Noise], growth: float, stress: Stress | None
) -> Iterator[Difference]:
    """Differences of arrays, or of what sequences, maps and optionals hold."""
    if isinstance(before, list | dict) and isinstance(after, type(before)) and len(before) == len(after):
        for (key, old), (other, new) in zip(_items(before), _items(after), strict=True):
            if key != other:
                yield Difference(name, np.inf, np.inf, 0.0, broken=True, reason=f"the key {key!r} became {other!r}")
            yield from _compare_values(f"{name}[{key}]", old, new, drift, noise, growth, stress)
        return
    settled = noise.get(name, QUIET).comparable
    if isinstance(before, list | dict) or (before is None) != (after is None) or isinstance(after, list | dict):
        if settled:
            yield Difference(name, np.inf, np.inf, 0.0, broken=True, reason=f"{_describe(before)} became {_describe(after)}")
    elif before is not None:
        yield difference(name, np.asarray(before), np.asarray(after), drift, noise.get(name, QUIET), growth, stress)


def _items(value: list[object] | dict[object, object]) -> list[tuple[object, object]]:
    return list(value.items()) if isinstance(value, dict) else list(enumerate(value))


def _describe(value: object) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, list | dict):
        return f"a {'map' if isinstance(value, dict) else 'sequence'} of {len(value)}"
    return f"an array of shape {np.asarray(value).shape}"


def leaves(name: str, value: object) -> Iterator[tuple[str, np.ndarray]]:
    """The arrays that an output holds, by their path."""
    if isinstance(value, list | dict):
        for key, item in _items(value):
            yield from leaves(f"{name}[{key}]", item)
    elif value is not None:
        yield name, np.asarray(value)
