"""Two small decoders with real weights: how they are calibrated, and how likely they find text they have not seen."""

from __future__ import annotations

import functools
import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx_ir as ir
from quant_outliers import planted
from tables import Findings, Row

import graphwright
from graphwright.backends.ort.backend import OrtBackend
from graphwright.compiler.calibration.data import CalibrationData, Samples
from graphwright.compiler.calibration.engine import Engine
from graphwright.compiler.core.sites import Site
from graphwright.compiler.method_run import RAISED
from graphwright.compiler.serialize import to_bytes
from graphwright.models import language
from graphwright.models.catalogue import Sample, find
from graphwright.models.ranks import log_likelihood
from graphwright.models.session import Plain, only
from graphwright.models.shared import Split
from graphwright.passes.quantize.tied import untie

BATCH = 8
SURE = 1.96
PLANTED = " with outliers"


@dataclass(frozen=True)
class Judged:
    """What a model makes of held-out text: ``losses`` [windows], the negative log-likelihood per token of each window, in nats; ``divergences`` [fewer],
    of some windows the Kullback-Leibler divergence of the next token from what the model in float32 says, in nats.
    """

    losses: np.ndarray
    divergences: np.ndarray

    @property
    def perplexity(self) -> float:
        """exp of the mean loss."""
        return perplexity(self.losses)

    @property
    def divergence(self) -> float:
        """The mean."""
        return float(self.divergences.mean())

    def against(self, other: Judged) -> Compared:
        """The change from another on the same windows."""
        return Compared(interval(self.divergences, other.divergences), interval(self.losses, other.losses))


@dataclass(frozen=True)
class Compared:
    """The 95 % intervals of how much more one model diverges, and loses, than another on the same windows, in nats."""

    divergence: tuple[float, float]
    loss: tuple[float, float]

    @property
    def verdict(self) -> str:
        """Whether it is nearer to the model in float32."""
        return verdict(self.divergence)

    @property
    def holds(self) -> bool:
        """Whether it is surely nearer, and its loss not surely higher."""
        return self.divergence[1] < 0 and self.loss[0] <= 0

    def __str__(self) -> str:
        (near, far), (low, high) = self.divergence, self.loss
        return f"divergence {near:+.5f} to {far:+.5f}, loss {low:+.4f} to {high:+.4f}"


@dataclass(frozen=True)
class Decoder:
    """A language model: ``windows(split)`` are token ids [n, length], ``report`` of them are scored and ``fit`` calibrated on.

    Divergence is measured on every ``apart``-th batch. ``outliers``: some are planted into the model (`quant_outliers`).
    """

    file: str
    input: str
    windows: Callable[[Split], np.ndarray]
    fit: int
    report: int
    apart: int = 1
    outliers: bool = False

    @property
    def name(self) -> str:
        """What it is called in tables."""
        return self.file + (PLANTED if self.outliers else "")

    @functools.cached_property
    def model(self) -> ir.Model:
        """The model as compression meets it; a head that shares its weight with the embedding has one of its own, so that it is a site."""
        with tempfile.TemporaryDirectory() as place:
            model = raised(ir.load(find(self.file).file(Path(place))))
        untie(model)
        return planted(model) if self.outliers else model

    def with_outliers(self) -> Decoder:
        """The same with outliers planted."""
        return replace(self, outliers=True)

    def feeds(self, split: Split, count: int) -> Iterator[Sample]:
        """The first ``count`` windows, a few at a time."""
        chosen = self.windows(split)[:count]
        return ({self.input: chosen[start : start + BATCH]} for start in range(0, len(chosen), BATCH))

    def calibrator(self, split: Split, count: int) -> Engine:
        """Statistics of these windows."""
        return calibrator(list(self.feeds(split, count)))

    def losses(self, model: ir.Model) -> np.ndarray:
        """Negative log-likelihood per token, the mean of each reported window, in nats."""
        return np.concatenate([self._losses(feed, logits) for _, feed, logits in self._said(model)])

    def judged(self, model: ir.Model) -> Judged:
        """The loss of each reported window, and the divergence of some."""
        losses, divergences = [], []
        for place, feed, logits in self._said(model):
            losses.append(self._losses(feed, logits))
            if place % self.apart == 0:
                divergences.append(_divergence(self._exact[place // self.apart], _log_shares(logits)))
        return Judged(np.concatenate(losses), np.concatenate(divergences))

    def _said(self, model: ir.Model) -> Iterator[tuple[int, Sample, np.ndarray]]:
        runner = Plain(to_bytes(model))
        for place, feed in enumerate(self.feeds("report", self.report)):
            yield place, feed, only(runner.run(feed))

    def _losses(self, feed: Sample, logits: np.ndarray) -> np.ndarray:
        return np.asarray(-log_likelihood(logits[:, :-1], feed[self.input][:, 1:]).mean(axis=1))

    @functools.cached_property
    def _exact(self) -> list[np.ndarray]:
        """The logarithm of what the model in float32 says, float32 [windows, length, vocabulary], for each batch that divergence is measured on."""
        return [_log_shares(logits) for place, _, logits in self._said(self.model) if place % self.apart == 0]


def perplexity(losses: np.ndarray) -> float:
    """exp of the mean."""
    return math.exp(min(float(losses.mean()), 700.0)) if np.isfinite(losses).all() else math.inf


def interval(values: np.ndarray, others: np.ndarray) -> tuple[float, float]:
    """The 95 % interval of the mean difference between the two on the same windows."""
    change = values - others
    reach = SURE * float(change.std(ddof=1)) / math.sqrt(len(change))
    return float(change.mean()) - reach, float(change.mean()) + reach


def verdict(found: tuple[float, float]) -> str:
    """What the interval of a difference shows, less being better."""
    return "better" if found[1] < 0 else "worse" if found[0] > 0 else "not sure"


def _log_shares(logits: np.ndarray) -> np.ndarray:
    """float32 will do: what is compared are means over thousands of tokens."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True, dtype=np.float64)).astype(np.float32))


def _divergence(exact: np.ndarray, found: np.ndarray) -> np.ndarray:
    """The mean of each window, of logarithms [windows, length, vocabulary]."""
    return np.asarray((np.exp(exact) * (exact - found)).sum(axis=-1, dtype=np.float64).mean(axis=-1))


def raised(source: ir.Model) -> ir.Model:
    """A model as compression meets it."""
    model = graphwright.optimize(source, target="onnx", level=RAISED)
    assert isinstance(model, ir.Model)
    return model


def without_head(sites: Sequence[Site]) -> list[Site]:
    """Sites but those that make an output of the model: GPTQ, AWQ, QuaRot and SpinQuant leave the head in high precision, and so are they compared."""
    return [site for site in sites if not site.node.outputs[0].is_graph_output()]


def calibrator(feeds: Sequence[Sample]) -> Engine:
    """Statistics of samples in memory."""
    return Engine(CalibrationData(Samples(feeds, lambda item: item), "samples of the benchmark"), OrtBackend())  # type: ignore[arg-type,return-value]


def decoders() -> tuple[Decoder, ...]:
    """Those of the shared models that this machine can run."""
    known = (
        Decoder("wikillama_3m", "input_ids", language.wiki_windows, 64, 600, 4),
        Decoder("llama_260k", "ids", language.llama_windows, 16, 48),
    )
    return tuple(decoder for decoder in known if find(decoder.file).unavailable() is None)


def each_decoder(only: str, look: Callable[[Decoder, Findings], None], outliers: bool = False) -> tuple[list[Row], list[str]]:
    """Let ``look`` find what it does on each decoder whose name holds ``only``, with ``outliers`` on those with planted ones too."""
    found = Findings()
    for decoder in decoders():
        for one in (decoder, decoder.with_outliers()) if outliers else (decoder,):
            if only in one.name:
                look(one, found)
    return found.rows, found.missed
