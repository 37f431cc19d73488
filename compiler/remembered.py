"""A calibrator that remembers: what one site does to a model is found by compressing the same model again and again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from .cache import hash_parts
from .core.backend import Array
from .core.sites import Site
from .core.statistics import Calibrator, PairStatistics, Range, SiteStatistics
from .serialize import skeleton, tensors_of

__all__ = ["Remembered"]

MOST_BYTES = 1 << 29
MOST_MODELS = 4
Key = tuple[str, tuple[int, ...]]


@dataclass
class _Known:
    """What was found of one model. ``tensors`` are kept so that nothing else gets their identity."""

    tensors: list[ir.TensorProtocol]
    ranges: dict[str, Range] = field(default_factory=dict)
    sites: dict[tuple[str, bool, int], list[SiteStatistics]] = field(default_factory=dict)
    outputs: dict[int | None, list[dict[str, Array]]] = field(default_factory=dict)
    unseen: dict[str, str] = field(default_factory=dict)


class Remembered:
    """A `Calibrator` that asks another once for each model: clones that share their weights are the same model.

    At most ``most_bytes`` of statistics and outputs are kept; beyond that the other is asked again.
    """

    def __init__(self, calibrator: Calibrator, most_bytes: int = MOST_BYTES) -> None:
        self._calibrator = calibrator
        self._left = most_bytes
        self._known: dict[Key, _Known] = {}
        self._unseen: Mapping[str, str] = {}
        self._parts: dict[int, tuple[Remembered, Remembered]] = {}

    @property
    def samples(self) -> int:
        """As `Calibrator.samples`."""
        return self._calibrator.samples

    @property
    def unseen(self) -> Mapping[str, str]:
        """As `Calibrator.unseen`."""
        return self._unseen

    def apart(self, every: int) -> tuple[Remembered, Remembered]:
        """As `Calibrator.apart`; the same two each time. Half of what may still be kept is theirs."""
        if every not in self._parts:
            fitted, judged = self._calibrator.apart(every)
            self._left //= 2
            self._parts[every] = (self, self) if fitted is self._calibrator else (Remembered(fitted, self._left // 2), Remembered(judged, self._left // 2))
        return self._parts[every]

    def ranges(self, model: ir.Model, values: Sequence[str]) -> dict[str, Range]:
        """As `Calibrator.ranges`."""
        known = self._of(model)
        missing = [name for name in dict.fromkeys(values) if name not in known.ranges and name not in known.unseen]
        if missing:
            known.ranges.update(self._calibrator.ranges(model, missing))
            known.unseen.update(self._calibrator.unseen)
        self._unseen = {name: known.unseen[name] for name in values if name in known.unseen}
        return {name: known.ranges[name] for name in values if name in known.ranges}

    def sites(
        self, model: ir.Model, sites: Sequence[Site], *, moments: bool = True, rows: int = 0, in_turn: bool = False
    ) -> Iterator[tuple[Site, list[SiteStatistics]]]:
        """As `Calibrator.sites`; nothing is remembered of a model that changes on the way."""
        if in_turn:
            yield from self._calibrator.sites(model, sites, moments=moments, rows=rows, in_turn=True)
            self._unseen = self._calibrator.unseen
            return
        known = self._of(model)
        missing = [site for site in sites if (site.name, moments, rows) not in known.sites and site.name not in known.unseen]
        fresh = iter(self._calibrator.sites(model, missing, moments=moments, rows=rows)) if missing else iter(())
        following = next(fresh, None)
        for site in sites:
            found = known.sites.get((site.name, moments, rows))
            if found is None and following is not None and following[0] is site:
                found = following[1]
                following = next(fresh, None)
                if self._afford(sum(_size(vars(group).values()) for group in found)):
                    known.sites[site.name, moments, rows] = found
            if found is not None:
                yield site, found
        if missing:
            known.unseen.update(self._calibrator.unseen)
        self._unseen = {site.name: known.unseen[site.name] for site in sites if site.name in known.unseen}

    def pairs(self, model: ir.Model, sites: Sequence[Site], targets: Sequence[str], *, parts: int = 1) -> Iterator[tuple[Site, list[PairStatistics]]]:
        """As `Calibrator.pairs`; nothing of it is remembered."""
        yield from self._calibrator.pairs(model, sites, targets, parts=parts)
        self._unseen = self._calibrator.unseen

    def outputs(self, model: ir.Model, limit: int | None = None) -> Iterator[dict[str, Array]]:
        """As `Calibrator.outputs`; only those of a model that something else was asked of are kept, for candidates come and go."""
        known = self._known.get(_key(model))
        if known is None:
            yield from self._calibrator.outputs(model, limit)
            return
        if limit in known.outputs:
            yield from known.outputs[limit]
            return
        kept: list[dict[str, Array]] | None = []
        for found in self._calibrator.outputs(model, limit):
            kept = [*kept, found] if kept is not None and self._afford(_size(found.values())) else None
            yield found
        if kept is not None:
            known.outputs[limit] = kept

    def means(self, model: ir.Model, values: Sequence[str], limit: int | None = None, *, in_turn: bool = False) -> Iterator[tuple[str, np.ndarray]]:
        """As `Calibrator.means`; nothing of it is remembered."""
        yield from self._calibrator.means(model, values, limit, in_turn=in_turn)

    def _of(self, model: ir.Model) -> _Known:
        key = _key(model)
        if key not in self._known:
            while len(self._known) >= MOST_MODELS:
                del self._known[next(iter(self._known))]
            self._known[key] = _Known(list(tensors_of(model)))
        return self._known[key]

    def _afford(self, size: int) -> bool:
        if size > self._left:
            return False
        self._left -= size
        return True


def _key(model: ir.Model) -> Key:
    return hash_parts([skeleton(model, max_inline=0).SerializeToString(deterministic=True)]), tuple(id(tensor) for tensor in tensors_of(model))


def _size(items: Iterable[object]) -> int:
    return sum(item.nbytes for item in items if isinstance(item, np.ndarray))
