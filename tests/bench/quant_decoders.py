"""Two small decoders with real weights: how they are calibrated, and how likely they find text they have not seen."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir

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


@dataclass(frozen=True)
class Decoder:
    """A language model: ``windows(split)`` are token ids [n, length], ``report`` of them are scored and ``fit`` calibrated on."""

    name: str
    input: str
    windows: Callable[[Split], np.ndarray]
    fit: int
    report: int

    @functools.cached_property
    def model(self) -> ir.Model:
        """The model as compression meets it; a head that shares its weight with the embedding has one of its own, so that it is a site."""
        with tempfile.TemporaryDirectory() as place:
            model = raised(ir.load(find(self.name).file(Path(place))))
        untie(model)
        return model

    def feeds(self, split: Split, count: int) -> Iterator[Sample]:
        """The first ``count`` windows, a few at a time."""
        chosen = self.windows(split)[:count]
        return ({self.input: chosen[start : start + BATCH]} for start in range(0, len(chosen), BATCH))

    def calibrator(self, split: Split, count: int) -> Engine:
        """Statistics of these windows."""
        return calibrator(list(self.feeds(split, count)))

    def losses(self, model: ir.Model) -> np.ndarray:
        """Negative log-likelihood per token, the mean of each reported window, in nats."""
        runner = Plain(to_bytes(model))
        found = []
        for feed in self.feeds("report", self.report):
            logits = only(runner.run(feed))
            found.append(-log_likelihood(logits[:, :-1], feed[self.input][:, 1:]).mean(axis=1))
        return np.concatenate(found)


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
        Decoder("wikillama_3m", "input_ids", language.wiki_windows, 64, 600),
        Decoder("llama_260k", "ids", language.llama_windows, 16, 48),
    )
    return tuple(decoder for decoder in known if find(decoder.name).unavailable() is None)
