"""How far a compressed model's answers lie from the input model's, told without labels."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from .core.backend import Array, Runner, Sample
from .tolerance import is_float

__all__ = ["Divergence", "OutputDivergence", "Ruler"]

SCORES = re.compile(r"logit|prob|score|class|label|softmax", re.IGNORECASE)
"""Names of outputs that hold a score for each class."""
MATRIX = 2
UNIT = 1e-3
"""How far sums (of probabilities) and lengths (of embeddings) may lie from 1 to be taken for it."""
TINY = 1e-12
LOUDEST_DB = 200.0
"""What the signal-to-noise ratio of equal outputs is given as."""


@dataclass(frozen=True)
class OutputDivergence:
    """One output over all samples.

    ``cosine`` is the mean over samples, ``worst_cosine`` the least; ``relative_error`` is ||a - b|| / ||a|| over all of them, and ``snr_db`` the same in
    decibel. ``kl`` (in nats, mean over rows) and ``agreement`` (how often the largest score is the same one) are only there for outputs that hold
    scores of classes; for whole numbers ``agreement`` is the share of equal elements.
    """

    output: str
    cosine: float
    worst_cosine: float
    relative_error: float
    snr_db: float
    kl: float | None = None
    agreement: float | None = None


@dataclass(frozen=True)
class Divergence:
    """All outputs on the same samples."""

    samples: int
    outputs: tuple[OutputDivergence, ...]

    @property
    def noise(self) -> float:
        """The largest share of noise in an output, as power: 0 when nothing moved. Noise of several sites roughly adds up."""
        return max((entry.relative_error**2 for entry in self.outputs), default=0.0)

    @property
    def likeness(self) -> tuple[str, float]:
        """What a largest drop bounds where there is no metric: the worst agreement of outputs with classes, else the worst mean cosine; 1 is alike."""
        agreed = [entry.agreement for entry in self.outputs if entry.agreement is not None]
        if agreed:
            return "agreement", min(agreed)
        return "cosine", min((entry.cosine for entry in self.outputs), default=1.0)


class Ruler:
    """Holds what a model makes of some samples, and measures others against it."""

    def __init__(self, reference: Runner, samples: Sequence[Sample]) -> None:
        self.samples = tuple(samples)
        self._before = [_arrays(reference.run(sample)) for sample in self.samples]

    def measure(self, runner: Runner, limit: int | None = None) -> Divergence:
        """The divergence of a runner on the samples (the first ``limit``)."""
        return self._measured(runner, slice(limit))

    def noises(self, runner: Runner) -> list[float]:
        """The noise (`Divergence.noise`) in the answers to each sample."""
        return [self._measured(runner, slice(place, place + 1)).noise for place in range(len(self.samples))]

    def _measured(self, runner: Runner, part: slice) -> Divergence:
        chosen = self.samples[part]
        sums: dict[str, _Sums] = {}
        for sample, before in zip(chosen, self._before[part], strict=True):
            after = _arrays(runner.run(sample))
            for name, array in before.items():
                if name in after and after[name].shape == array.shape and array.size:
                    sums.setdefault(name, _Sums(_holds_scores(name, array, len(before)))).add(array, after[name])
        return Divergence(len(chosen), tuple(found.entry(name) for name, found in sums.items()))


@dataclass
class _Sums:
    """What is added up over samples for one output."""

    scores: bool
    signal: float = 0.0
    noise: float = 0.0
    cosines: list[float] = field(default_factory=list)
    kl: list[float] = field(default_factory=list)
    agreed: int = 0
    rows: int = 0
    whole: bool = False

    def add(self, before: np.ndarray, after: np.ndarray) -> None:
        if not is_float(before.dtype):
            self.whole = True
            self.agreed, self.rows = self.agreed + int((before == after).sum()), self.rows + before.size
            return
        old, new = before.astype(np.float64), after.astype(np.float64)
        usable = np.isfinite(old) & np.isfinite(new)
        one, other = np.where(usable, old, 0.0).reshape(-1), np.where(usable, new, 0.0).reshape(-1)
        self.signal += float(one @ one)
        self.noise += float((one - other) @ (one - other))
        self.cosines.append(_cosine(one, other))
        if self.scores:
            self._add_scores(np.where(usable, old, 0.0), np.where(usable, new, 0.0))

    def _add_scores(self, old: np.ndarray, new: np.ndarray) -> None:
        one, other = old.reshape(-1, old.shape[-1]), new.reshape(-1, new.shape[-1])
        same = one.argmax(axis=1) == other.argmax(axis=1)
        self.agreed, self.rows = self.agreed + int(same.sum()), self.rows + len(same)
        p, q = (_log_probabilities(scores) for scores in (one, other))
        self.kl.append(float(np.mean(np.sum(np.exp(p) * (p - q), axis=1))))

    def entry(self, name: str) -> OutputDivergence:
        agreement = self.agreed / self.rows if self.rows else None
        if self.whole:
            share = agreement if agreement is not None else 1.0
            return OutputDivergence(name, share, share, 1.0 - share, _decibel(1.0, (1.0 - share) ** 2), None, agreement)
        error = (self.noise / self.signal) ** 0.5 if self.signal else float(self.noise > 0)
        kl = float(np.mean(self.kl)) if self.kl else None
        return OutputDivergence(name, float(np.mean(self.cosines)), min(self.cosines), error, _decibel(self.signal, self.noise), kl, agreement)


def _arrays(outputs: Mapping[str, Array]) -> dict[str, np.ndarray]:
    """The outputs that are plain arrays of numbers."""
    return {name: value for name, value in outputs.items() if isinstance(value, np.ndarray) and value.dtype.kind not in "OSUc"}


def _holds_scores(name: str, array: np.ndarray, outputs: int) -> bool:
    """Whether the last axis counts classes: it says so, its rows are probabilities, or it is a model's only matrix and no embedding of length 1."""
    if not is_float(array.dtype) or array.ndim < MATRIX or array.shape[-1] < MATRIX:
        return False
    rows = array.astype(np.float64).reshape(-1, array.shape[-1])
    if SCORES.search(name) or _probable(rows):
        return True
    lengths = np.sqrt(np.square(rows).sum(axis=1))
    return outputs == 1 and array.ndim == MATRIX and not bool((np.abs(lengths - 1) < UNIT).all())


def _probable(rows: np.ndarray) -> bool:
    return bool((rows >= 0).all() and (np.abs(rows.sum(axis=1) - 1) < UNIT).all())


def _log_probabilities(rows: np.ndarray) -> np.ndarray:
    if _probable(rows):
        return np.log(np.maximum(rows, TINY))
    shifted = rows - rows.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def _cosine(one: np.ndarray, other: np.ndarray) -> float:
    lengths = float(np.sqrt(one @ one) * np.sqrt(other @ other))
    if lengths == 0.0:
        return float(not one.any() and not other.any())
    return min(max(float(one @ other) / lengths, -1.0), 1.0)


def _decibel(signal: float, noise: float) -> float:
    if noise <= 0.0 or signal <= 0.0:
        return LOUDEST_DB if noise <= 0.0 else -LOUDEST_DB
    return float(np.clip(10 * np.log10(signal / noise), -LOUDEST_DB, LOUDEST_DB))
