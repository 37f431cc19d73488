"""Calibration data: samples of a model that can be gone through as often as needed, checked one by one."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from ..cache import hash_parts
from ..core.backend import Array, Sample
from ..core.errors import InputError
from ..fingerprint import hash_samples
from .fit import Fit

__all__ = ["CalibrationData", "Feed", "Samples", "Skipped", "Stacks", "sample_bytes"]

NAMED = 3
"""How many reasons a message about samples that were left out gives."""


@dataclass(frozen=True)
class Skipped:
    """A sample that was left out: what it is called (its file, or its place) and why."""

    name: str
    reason: str


class Feed(Protocol):
    """Where samples come from, again each time it is asked."""

    def items(self) -> Iterator[tuple[str, Callable[[], Sample]]]:
        """What each sample is called, and how to read it; reading raises InputError when it cannot be used."""
        ...

    def digest(self) -> str:
        """The hash of what the samples are made of."""
        ...


@dataclass(frozen=True)
class Samples:
    """Samples in memory; ``fit`` checks one and brings it into the form that the model is fed."""

    content: Sequence[object]
    fit: Callable[[object], Sample]

    def items(self) -> Iterator[tuple[str, Callable[[], Sample]]]:
        """As `Feed.items`."""
        for place, item in enumerate(self.content):
            yield f"sample {place}", functools.partial(self.fit, item)

    def digest(self) -> str:
        """As `Feed.digest`; samples that do not fit do not count."""
        return hash_parts(hash_samples([sample]) for _, read in self.items() if (sample := _or_none(read)) is not None)


@dataclass(frozen=True)
class Stacks(Samples):
    """Items in memory, each of which may hold several samples."""

    fit: Fit

    def items(self) -> Iterator[tuple[str, Callable[[], Sample]]]:
        """As `Feed.items`."""
        for place, item in enumerate(self.content):
            try:
                parts = list(self.fit.parts(item))
            except InputError:
                parts = [functools.partial(self.fit, item)]
            for part, read in enumerate(parts):
                yield f"sample {place}" if len(parts) == 1 else f"sample {place}[{part}]", read


@dataclass
class CalibrationData:
    """Iterating gives the good samples, one at a time; bad ones are left out and named in ``skipped``.

    ``made_up`` says that nobody's real data is in it. ``notes`` are sentences for the report. What a part of a ``whole`` leaves out the whole leaves out.
    """

    feed: Feed
    kind: str
    made_up: bool = False
    notes: tuple[str, ...] = ()
    whole: CalibrationData | None = field(default=None, repr=False)
    _skipped: dict[str, str] = field(default_factory=dict, init=False)
    _count: int | None = field(default=None, init=False)

    def __iter__(self) -> Iterator[Sample]:
        for _, sample in self.named():
            yield sample

    def named(self) -> Iterator[tuple[str, Sample]]:
        """Each good sample with what it is called. Raises InputError when there is none."""
        count = 0
        for name, read in self.feed.items():
            count += 1
            if name in self._skipped:
                continue
            try:
                sample = read()
                refuse_nan(sample)
            except InputError as error:
                self.skip(name, str(error))
                continue
            yield name, sample
        self._count = count
        self.refuse_empty()

    def skip(self, name: str, reason: str) -> None:
        """Leave a sample out from now on."""
        self._skipped[name] = reason
        if self.whole is not None:
            self.whole.skip(name, reason)

    def part(self, feed: Feed) -> CalibrationData:
        """Some of the samples."""
        return replace(self, feed=feed, whole=self)

    def refuse_empty(self) -> None:
        """Raise InputError when no sample is left."""
        if len(self) > 0:
            return
        if not self._skipped:
            raise InputError(f"the calibration data ({self.kind}) has no samples; --calibration random makes some up, which says less about the model")
        reasons = "; ".join(f"{item.name}: {item.reason}" for item in self.skipped[:NAMED])
        raise InputError(f"none of the {len(self._skipped)} calibration samples ({self.kind}) can be used: {reasons}")

    def __len__(self) -> int:
        """How many samples there are, without those known to be bad."""
        if self._count is None:
            self._count = sum(1 for _ in self.feed.items())
        return self._count - len(self._skipped)

    @property
    def skipped(self) -> tuple[Skipped, ...]:
        """The samples left out so far."""
        return tuple(Skipped(name, reason) for name, reason in self._skipped.items())

    @functools.cached_property
    def digest(self) -> str:
        """The hash of the data."""
        return self.feed.digest()

    def first(self, count: int) -> tuple[Sample, ...]:
        """The first good samples."""
        return tuple(itertools.islice(self, count))

    def close(self) -> None:
        """Remove what was kept in temporary files; without a call that happens when nobody holds this any more."""
        close = getattr(self.feed, "close", None)
        if close is not None:
            close()

    def describe(self) -> str:
        """How many samples were used, of what, and which were left out: one or two sentences for the report."""
        made = ", all made up: figures of a model calibrated on them say little about real data" if self.made_up else ""
        text = f"calibrated on {len(self)} samples ({self.kind}){made}"
        if self._skipped:
            text += f"; {len(self._skipped)} left out: " + "; ".join(f"{item.name}: {item.reason}" for item in self.skipped[:NAMED])
            text += " ..." if len(self._skipped) > NAMED else ""
        return text


def sample_bytes(sample: Sample) -> int:
    """How much memory a sample takes."""
    return sum(array.nbytes for value in sample.values() for array in _arrays(value))


def refuse_nan(sample: Sample) -> None:
    """Raise InputError when an input holds a NaN. Infinities may: a mask can be made of them."""
    for name, value in sample.items():
        for array in _arrays(value):
            if array.dtype.kind in "fV" and np.isnan(array).any():
                raise InputError(f"the input '{name}' holds {int(np.isnan(array).sum())} NaN")


def _arrays(value: Array) -> Iterable[np.ndarray]:
    if value is None:
        return ()
    return value if isinstance(value, list) else (value,)


def _or_none(read: Callable[[], Sample]) -> Sample | None:
    try:
        return read()
    except InputError:
        return None
