"""Runs a model on calibration data and collects what compression methods ask for, in bounded memory."""

from __future__ import annotations

import contextlib
import functools
import itertools
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import onnx_ir as ir

from ..core.backend import Array, Backend, Progress
from ..core.errors import InputError
from ..core.sites import Site
from ..core.statistics import PairStatistics, Range, SiteStatistics
from .data import CalibrationData, sample_bytes
from .halves import split_data
from .moments import Counts, Moments
from .packing import packed
from .pairs import Pairs, matched
from .probe import Visit, cut_model, measured_bytes, typed, unseen
from .rows import Layout, count_rows, drawn_rows, layout_of, reach_of, rows_of
from .shelf import Kept, Shelf, group_key, open_shelf, pack_ranges, pack_sites, skipped_in, unpack_ranges, unpack_sites
from .spread import BINS, Spread
from .stages import Stages

__all__ = ["Engine"]

BUDGET_BYTES = 1 << 30
"""What may be held at once besides the model itself: half for values of one sample, half for what is collected."""
ROWS, ROWS_EACH = 1 << 16, 64
"""A moment of K inputs is made of at least so many rows of all samples together, if there are as many: the first, or K times the second. Of patches, which
have to be made first, the means are too."""
LEAST_JUDGED = 2
"""Samples to judge on; what a single one shows could be anything."""
KEEP_SECONDS = 5.0
"""A group that took less is collected again sooner than it is read."""
SPREAD_BYTES = 8 * BINS

Show = Callable[[Sequence[str], Visit], None]
"""Shows some values of every sample."""
Key = tuple[str, Layout]
"""A value and how it is read: sites that have both in common have the same X."""


@dataclass
class Engine:
    """The `Calibrator` of a compilation. ``unseen`` names, after a call, each value or site that could not be observed, and why.

    Values are observed in groups that fit ``budget`` bytes, each over all samples, the next from where the last one stopped (see `Stages`); what is
    collected of a value does not grow with the samples. ``seed`` draws the rows that are kept. What took ``keep_seconds`` to collect is kept on
    ``shelf`` (None: nowhere).
    """

    data: CalibrationData
    backend: Backend
    progress: Progress | None = None
    budget: int = BUDGET_BYTES
    seed: int = 0
    unseen: dict[str, str] = field(default_factory=dict)
    shelf: Shelf | None = field(default_factory=open_shelf)
    keep_seconds: float = KEEP_SECONDS

    @property
    def samples(self) -> int:
        """How many samples there are."""
        return len(self.data)

    def apart(self, every: int) -> tuple[Engine, Engine]:
        """As `Calibrator.apart`."""
        if len(self.data) < LEAST_JUDGED * every:
            return self, self
        fitted, judged = split_data(self.data, every)
        with contextlib.suppress(InputError):
            if len(judged.first(LEAST_JUDGED)) == LEAST_JUDGED and fitted.first(1):
                return replace(self, data=fitted, unseen={}), replace(self, data=judged, unseen={})
        return self, self

    def ranges(self, model: ir.Model, values: Sequence[str]) -> dict[str, Range]:
        """As `Calibrator.ranges`."""
        model = typed(model, values)
        names = self._observable(model, values)
        found: dict[str, Range] = {}
        sizes, measured = self._sizes(model, names)
        groups = list(packed(sizes, dict.fromkeys(names, SPREAD_BYTES), self.budget // 2))
        with self._stages(model, groups, measured) as show:
            for group in groups:
                for name, item in zip(group, self._ranges(model, group, show), strict=True):
                    if item is None:
                        self.unseen[name] = "it held no finite number on any sample"
                    else:
                        found[name] = item
        return found

    def sites(
        self, model: ir.Model, sites: Sequence[Site], *, moments: bool = True, rows: int = 0, in_turn: bool = False
    ) -> Iterator[tuple[Site, list[SiteStatistics]]]:
        """As `Calibrator.sites`."""
        model = model if in_turn else typed(model, [site.data.name or "" for site in sites])  # What changes on the way is not looked at in a copy.
        seen = set(self._observable(model, [site.data.name or "" for site in sites]))
        wanted = [site for site in sites if (site.data.name or "") in seen]
        self.unseen.update({site.name: self.unseen[site.data.name or ""] for site in sites if (site.data.name or "") not in seen})
        keys = [(site.data.name or "", layout_of(site)) for site in wanted]
        distinct = list(dict.fromkeys(keys))
        sizes, measured = self._sizes(model, list(dict.fromkeys(name for name, _ in keys)))
        held = {key: _held_bytes(key[1], moments, rows) for key in distinct}
        packs = packed({key: sizes[key[0]] for key in distinct}, held, self.budget // 2)
        groups = [list(keys) for _, keys in itertools.groupby(distinct, lambda key: key[0])] if in_turn else list(packs)
        with self._stages(model, [[name for name, _ in group] for group in groups], measured) as show:
            yield from self._each(model, wanted, keys, iter(groups), moments, rows, show)

    def _each(
        self, model: ir.Model, sites: Sequence[Site], keys: Sequence[Key], groups: Iterator[list[Key]], moments: bool, rows: int, show: Show
    ) -> Iterator[tuple[Site, list[SiteStatistics]]]:
        """The sites in order; what is collected of a key is held until the last site that reads it."""
        found: dict[Key, list[SiteStatistics]] = {}
        last = {key: place for place, key in enumerate(keys)}
        for place, (site, key) in enumerate(zip(sites, keys, strict=True)):
            if key not in found:
                group = next(groups)
                found.update(zip(group, self._statistics(model, group, moments, rows, show), strict=True))
            statistics = found[key]
            if last[key] == place:
                del found[key]
            if statistics:
                yield site, statistics
            else:
                self.unseen[site.name] = "its input was empty, or not finite, on every sample"

    def pairs(self, model: ir.Model, sites: Sequence[Site], targets: Sequence[str], *, parts: int = 1) -> Iterator[tuple[Site, list[PairStatistics]]]:
        """As `Calibrator.pairs`."""
        chosen = [(site, site.data.name or "", target) for site, target in zip(sites, targets, strict=True)]
        seen = set(self._observable(model, [name for _, data, target in chosen for name in (data, target)]))
        self.unseen.update({site.name: self.unseen.get(data) or self.unseen[target] for site, data, target in chosen if not {data, target} <= seen})
        chosen = [item for item in chosen if {item[1], item[2]} <= seen]
        _, measured = self._sizes(model, list(dict.fromkeys(name for _, *names in chosen for name in names)))
        with self._stages(model, [[data, target] for _, data, target in chosen], measured, stop_before=True) as show:
            for site, data, target in chosen:
                found = self._paired(site, data, target, parts, show)
                if any(part.count for part in found):
                    yield site, found
                else:
                    self.unseen[site.name] = "its input was empty, or not finite, on every sample"

    def _paired(self, site: Site, data: str, target: str, parts: int, show: Show) -> list[PairStatistics]:
        layout = layout_of(site)
        collected: list[Pairs] = []
        waiting: dict[str, np.ndarray] = {}
        sieve, seen = np.random.default_rng([self.seed, zlib.crc32(site.name.encode())]), itertools.count()

        def visit(name: str, array: np.ndarray) -> None:
            waiting[name] = array
            if len(waiting) < 2:
                return
            inputs, outputs = waiting.pop(data), waiting.pop(target)
            share, part = self._share(inputs.shape, layout), next(seen) % parts
            for rows, beside in matched(inputs, outputs, layout, share, sieve):
                if not collected:
                    collected.extend(Pairs(layout.width, beside.shape[1]) for _ in range(parts))
                collected[part].add(rows, beside)

        show([data, target], visit)
        return [item.statistics() for item in collected]

    def outputs(self, model: ir.Model, limit: int | None = None) -> Iterator[dict[str, Array]]:
        """As `Calibrator.outputs`."""
        runner = self.backend.baseline(model)
        try:
            for place, (name, sample) in enumerate(self.data.named()):
                if place == limit:
                    return
                self._tell(f"running calibration sample {place + 1}")
                try:
                    yield runner.run(sample)
                except InputError as error:
                    self.data.skip(name, str(error))
        finally:
            runner.close()

    def means(self, model: ir.Model, values: Sequence[str], limit: int | None = None, *, in_turn: bool = False) -> Iterator[tuple[str, np.ndarray]]:
        """As `Calibrator.means`."""
        names = self._observable(model, values)
        sizes, measured = self._sizes(model, names)
        groups = [[name] for name in names] if in_turn else list(packed(sizes, dict.fromkeys(names, 0), self.budget // 2))
        with self._stages(model, groups, measured, limit, stop_before=in_turn) as show:
            for group in groups:
                sums = {name: Channels() for name in group}

                def add(name: str, array: np.ndarray, sums: dict[str, Channels] = sums) -> None:
                    sums[name].add(array)

                show(group, add)
                yield from ((name, found.mean()) for name, found in sums.items())

    def _observable(self, model: ir.Model, names: Iterable[str]) -> list[str]:
        chosen = list(dict.fromkeys(names))
        self.unseen = unseen(model, chosen)
        return [name for name in chosen if name not in self.unseen]

    def _sizes(self, model: ir.Model, names: Sequence[str]) -> tuple[dict[str, int], int]:
        """The bytes of each value on the first sample that the model takes, and those of that sample."""
        if not names:
            return {}, 0
        for name, sample in self.data.named():
            try:
                return measured_bytes(model, names, self.backend.reference, sample), sample_bytes(sample)
            except InputError as error:
                self.data.skip(name, str(error))
        self.data.refuse_empty()
        raise AssertionError("an empty calibration set is refused")

    def _ranges(self, model: ir.Model, names: Sequence[str], show: Show) -> list[Range | None]:
        """The ranges of a group, collected or as they were kept."""
        saved = Saved(self, model, names, "ranges")
        if (content := saved.find()) is not None:
            return unpack_ranges(content, len(names))
        spreads = {name: Spread() for name in names}
        show(names, lambda name, array: spreads[name].add(array))
        found = [spread.range() for spread in spreads.values()]
        saved.put(lambda skipped: pack_ranges(found, skipped), len(names) * SPREAD_BYTES)
        return found

    def _statistics(self, model: ir.Model, keys: Sequence[Key], moments: bool, rows: int, show: Show) -> list[list[SiteStatistics]]:
        """The statistics of a group of keys, collected or as they were kept."""
        names = list(dict.fromkeys(name for name, _ in keys))
        saved = Saved(self, model, names, ("sites", tuple(keys), moments, rows, self.seed))
        if (content := saved.find()) is not None:
            return unpack_sites(content, len(keys))
        collected = {key: self._collector(key, moments, rows) for key in keys}
        sieve = np.random.default_rng([self.seed, 2])

        def visit(name: str, array: np.ndarray) -> None:
            for key, collector in collected.items():
                if key[0] != name:
                    continue
                share = self._share(array.shape, key[1])
                if share < 1 and key[1].kind == "patches" and isinstance(collector, Moments) and np.isfinite(array).all():
                    ends = reach_of(array, key[1])
                    for piece, total in drawn_rows(array, key[1], share, sieve):
                        collector.add_drawn(piece, total, *ends)
                    continue
                for piece in rows_of(array, key[1]):
                    collector.add(piece, share)

        show(names, visit)
        found = [collector.statistics() for collector in collected.values()]
        saved.put(lambda skipped: pack_sites(found, skipped), sum(_held_bytes(layout, moments, rows) for _, layout in keys))
        return found

    def _share(self, shape: Sequence[int], layout: Layout) -> float:
        """How many of the rows of a value are multiplied, so that all samples together give as many as a moment needs."""
        wanted = max(ROWS_EACH * layout.width, ROWS) / max(1, self.samples)
        return min(1.0, wanted / max(1, count_rows(shape, layout)))

    def _collector(self, key: Key, moments: bool, rows: int) -> Counts | Moments:
        name, layout = key
        if layout.kind == "indices":
            return Counts(layout.width)
        return Moments(layout.groups, layout.width, moments=moments, rows=rows, seed=self.seed + zlib.crc32(name.encode()))

    @contextlib.contextmanager
    def _stages(
        self, model: ir.Model, groups: Sequence[Sequence[str]], measured: int, limit: int | None = None, *, stop_before: bool = False
    ) -> Iterator[Show]:
        """What shows a group of values of every sample, each freed before the next is looked at; the groups fit for samples of ``measured`` bytes."""
        stages = Stages(model, self.data, self.backend.reference, self.budget // 2, limit)
        left = [set(group) for group in groups]

        def show(names: Sequence[str], visit: Visit) -> None:
            while left and left.pop(0) != set(names):
                pass  # Groups before this one were found as an earlier run kept them.
            title, total = f"calibrating {len(names)} values", min(len(self.data), limit or len(self.data))

            def tell(place: int) -> None:
                self._tell(f"{title}: sample {place + 1} of {total}")

            stages.run(names, set().union(*left), measured, tell, visit, stop_before=stop_before)

        try:
            yield show
        finally:
            stages.close()

    def _tell(self, text: str) -> None:
        if self.progress is not None:
            self.progress(text)


class Channels:
    """Adds up the channels of a value: its second dimension, or the only one there is."""

    def __init__(self) -> None:
        self._sum: np.ndarray | float = 0.0
        self._count = 0

    def add(self, array: np.ndarray) -> None:
        """One more sample of it."""
        axis = min(1, array.ndim - 1)
        wide = np.moveaxis(array, axis, -1).reshape(-1, array.shape[axis])
        self._sum = self._sum + wide.sum(axis=0, dtype=np.float64)
        self._count += len(wide)

    def mean(self) -> np.ndarray:
        """The mean of each channel, float64 [C]; NaN where there was nothing."""
        return np.asarray(self._sum) / self._count if self._count else np.full(np.shape(self._sum), np.nan)


class Saved:
    """Where a group's statistics are kept once they took ``KEEP_SECONDS`` to collect."""

    def __init__(self, engine: Engine, model: ir.Model, names: Sequence[str], question: object) -> None:
        self._engine, self._model, self._names, self._question = engine, model, names, question
        self._started = time.monotonic()

    def find(self) -> Kept | None:
        """What an earlier run kept."""
        shelf = self._engine.shelf
        content = None if shelf is None or shelf.is_empty else shelf.find(self._key)
        if content is not None:
            for name, reason in skipped_in(content).items():
                self._engine.data.skip(name, reason)
        return content

    def put(self, pack: Callable[[Mapping[str, str]], Kept], size: int) -> None:
        """Keep what was collected, ``size`` bytes of it, if it took long."""
        shelf = self._engine.shelf
        if shelf is not None and shelf.has_room(size) and time.monotonic() - self._started >= self._engine.keep_seconds:
            shelf.put(self._key, pack({item.name: item.reason for item in self._engine.data.skipped}))

    @functools.cached_property
    def _key(self) -> str:
        return group_key(cut_model(self._model, self._names), self._engine.data.digest, self._question)


def _held_bytes(layout: Layout, moments: bool, rows: int) -> int:
    if layout.kind == "indices":
        return 8 * 3 * layout.width
    return layout.groups * layout.width * (8 * (6 + (layout.width if moments else 0)) + 4 * rows)
