"""The pass that turns the hidden states of a transformer to their principal directions, and cuts the least of these off."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from ...compiler.core.drift import LOSSY, Drift
from ...compiler.core.errors import UsageError
from ...compiler.core.graph import clone_model, constant
from ...compiler.core.names import Names
from ...compiler.core.passes import Context, Pass
from ...compiler.core.shapes import settle_shapes
from ...compiler.core.sites import all_sites
from ...compiler.core.statistics import Calibrator
from ..quantize.residual_stream import Stream, residual_streams
from ..quantize.rotate import Turning
from .correction import correct
from .coupling.follower import Follower
from .coupling.groups import couple
from .coupling.shrinking import shrink
from .readers import left_channels

__all__ = ["SliceGpt"]


@dataclass(frozen=True)
class SliceGpt(Pass):
    """Takes ``ratio`` of the channels out of the residual streams between RMS norms (Ashkboos et al., "SliceGPT: Compress Large Language Models by
    Deleting Rows and Columns", ICLR 2024, sections 3.2 to 3.4).

    The stream is turned to the principal directions of what the norms give, over all of them together: one basis for all layers, where the paper has one
    for each block and a product on every residual, so that nothing is added to the graph. What the norms divide by is as large as before on the whole.
    With ``refit`` what is left is fitted to what it gave, as `structured.PruneStructured` does. Streams of LayerNormalization stay: what takes the mean
    away does not commute with a cut.
    """

    name: ClassVar[str] = "slicegpt"
    drift: ClassVar[Drift] = LOSSY
    whole: ClassVar[bool] = True

    ratio: float = 0.2
    refit: bool = False
    multiple: int = 1

    def run(self, model: ir.Model, context: Context) -> int:
        """Shrink the streams; returns how many channels went. Raises UsageError for a ratio that is none, or without calibration data."""
        if not 0 < self.ratio < 1 or self.multiple < 1:
            raise UsageError("slicegpt takes a ratio between 0 and 1, and a multiple from 1 on")
        if context.calibrator is None:
            raise UsageError("slicegpt needs calibration data: --calibration FILE, or --calibration random, which says less")
        settle_shapes(model)
        done = 0
        for item in list(residual_streams(model)):
            if not isinstance(item, Stream):
                context.notes.append(f"slicegpt leaves the stream at '{item[0]}' as it is: {item[1]}")
            elif item.centred:
                context.notes.append(f"slicegpt leaves the stream at '{item.name}' as it is: a LayerNormalization takes the mean of its channels away")
            else:
                done += self._slice(model, item, context, context.calibrator)
        if not done:
            context.coverage.complete(all_sites(model), "it reads no stream that could be cut")
        return done

    def _slice(self, model: ir.Model, stream: Stream, context: Context, calibrator: Calibrator) -> int:
        refusal = _turn(model, stream, np.eye(stream.width))
        if refusal is not None or not context.ledger.permit(self.name, stream.name):
            context.notes.append(f"slicegpt leaves the stream at '{stream.name}' as it is: {refusal or 'it was rolled back here'}")
            return 0
        refusal = _turn(model, stream, principal(model, stream, calibrator))
        assert refusal is None, refusal
        stays = -(-round((1 - self.ratio) * stream.width) // self.multiple) * self.multiple
        coupling, sites = couple(model), list(all_sites(model))
        gone = _last(coupling.follower, model, stream, stays)
        if not len(gone):
            context.notes.append(f"slicegpt leaves the stream at '{stream.name}' as it is: something reads its channels by their places")
            return 0
        earlier, columns = clone_model(model), left_channels(coupling.follower, sites, gone)
        shrink(model, coupling.follower, gone)
        _scale(stream.norms, float(np.sqrt(stream.width / stays)))
        if self.refit:
            correct(earlier, model, columns, calibrator)
        for site in sites:
            context.coverage.take(site, "sliced", 32.0 * stays / stream.width, self.name)
        return stream.width - stays


def principal(model: ir.Model, stream: Stream, calibrator: Calibrator) -> np.ndarray:
    """The directions in which what is read of a stream is largest, the largest first, float64 [width, width]; each input counts once."""
    nodes = {edge.node for edge in stream.readers}
    sites = [site for site in all_sites(model) if site.node in nodes and site.kind in ("MatMul", "Gemm")]
    total, seen = np.zeros((stream.width, stream.width)), set[str]()
    for site, (statistics, *_) in calibrator.sites(model, sites, moments=True):
        data = site.data.name or ""
        if data not in seen and statistics.moment.shape == total.shape:
            seen.add(data)
            total += statistics.moment
    _, vectors = np.linalg.eigh((total + total.T) / 2)
    return np.ascontiguousarray(vectors[:, ::-1])


def _turn(model: ir.Model, stream: Stream, turn: np.ndarray) -> object:
    """Put the stream into another basis; why that cannot be."""
    work = Turning(stream, turn)
    refusal = work.prepare()
    if refusal is None:
        work.apply(Names(model))
    return refusal


def _last(follower: Follower, model: ir.Model, stream: Stream, stays: int) -> np.ndarray:
    """The classes of the channels behind the first that stay; none where something holds them."""
    value = next((value for node in model.graph for value in node.outputs if value.name == stream.name), None)
    axes: Sequence[np.ndarray | None] = follower.axes_of(value)
    channels = axes[-1] if axes else None
    if channels is None or len(channels) != stream.width or len(np.unique(follower.classes.find(channels))) != stream.width:
        return np.zeros(0, np.int64)
    gone = np.asarray(follower.classes.find(channels[stays:]))
    return np.zeros(0, np.int64) if follower.classes.reasons(gone).any() else gone


def _scale(norms: Sequence[ir.Node], factor: float) -> None:
    """Multiply what norms give. Their scales are ones, which nothing but norms of this stream reads."""
    for value in dict.fromkeys(norm.inputs[1] for norm in norms):
        tensor = constant(value)
        assert value is not None and tensor is not None
        content = tensor.numpy()
        value.const_value = ir.tensor((content * factor).astype(content.dtype), dtype=tensor.dtype, name=value.name)
