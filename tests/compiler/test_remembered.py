"""What calibration found of a model is remembered for its clones, and for nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import onnx_ir as ir

from graphwright.backends.ort.backend import OrtBackend
from graphwright.compiler.calibration.engine import Engine
from graphwright.compiler.calibration.opening import open_calibration
from graphwright.compiler.core.backend import Array
from graphwright.compiler.core.graph import clone_model
from graphwright.compiler.core.sites import Site, all_sites
from graphwright.compiler.core.statistics import Range, SiteStatistics
from graphwright.compiler.remembered import Remembered

from .compressing import mlp, rows


class Counting:
    """A calibrator that counts what it is asked for."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.asked: list[object] = []

    @property
    def samples(self) -> int:
        return self.engine.samples

    @property
    def unseen(self) -> Mapping[str, str]:
        return self.engine.unseen

    def ranges(self, model: ir.Model, values: Sequence[str]) -> dict[str, Range]:
        self.asked.append(list(values))
        return self.engine.ranges(model, values)

    def sites(self, model: ir.Model, sites: Sequence[Site], *, moments: bool = True, rows: int = 0) -> Iterator[tuple[Site, list[SiteStatistics]]]:
        self.asked.append([site.name for site in sites])
        yield from self.engine.sites(model, sites, moments=moments, rows=rows)

    def outputs(self, model: ir.Model, limit: int | None = None) -> Iterator[dict[str, Array]]:
        self.asked.append(limit)
        yield from self.engine.outputs(model, limit)

    def means(self, model: ir.Model, values: Sequence[str], limit: int | None = None, *, in_turn: bool = False) -> Iterator[tuple[str, np.ndarray]]:
        self.asked.append(list(values))
        yield from self.engine.means(model, values, limit, in_turn=in_turn)


def opened(**options: int) -> tuple[ir.Model, Counting, Remembered]:
    model = ir.from_proto(mlp())
    counting = Counting(Engine(open_calibration([{"x": rows(4, seed)} for seed in range(3)], model), OrtBackend()))
    return model, counting, Remembered(counting, **options)


def test_each_range_is_asked_for_once_and_clones_share_it() -> None:
    model, counting, remembered = opened()
    first = remembered.ranges(model, ["h0", "h1"])
    again, exact = remembered.ranges(clone_model(model), ["h1", "h0"]), counting.engine.ranges(model, ["h0", "h1"])
    assert list(again) == ["h1", "h0"] and all(again[name] is first[name] for name in first)
    assert all((first[name].low, first[name].high) == (exact[name].low, exact[name].high) for name in exact)
    remembered.ranges(clone_model(model), ["h1", "h2"])
    assert counting.asked == [["h0", "h1"], ["h2"]]
    assert remembered.samples == 3


def test_statistics_of_sites_come_in_the_order_asked_for() -> None:
    model, counting, remembered = opened()
    one, two, three, four = all_sites(model)
    list(remembered.sites(model, [two]))
    found = list(remembered.sites(model, [one, two, three]))
    assert [site for site, _ in found] == [one, two, three] and counting.asked == [["h1"], ["h0", "h2"]]
    for (_, mine), (_, theirs) in zip(found, counting.engine.sites(model, [one, two, three]), strict=True):
        np.testing.assert_array_equal(mine[0].moment, theirs[0].moment)
    list(remembered.sites(model, [four], moments=False))
    list(remembered.sites(model, [four], rows=2))
    assert counting.asked[2:] == [["logits"], ["logits"]]


def test_another_weight_makes_another_model() -> None:
    model, counting, remembered = opened()
    remembered.ranges(model, ["h1"])
    other = clone_model(model)
    value = other.graph.initializers["w_h0"]
    value.const_value = ir.tensor(value.const_value.numpy() * 2, name="w_h0")  # type: ignore[union-attr]
    assert remembered.ranges(other, ["h0"])["h0"].high == 2 * remembered.ranges(model, ["h0"])["h0"].high
    assert len(counting.asked) == 3


def test_outputs_are_kept_of_models_that_are_studied_only() -> None:
    model, counting, remembered = opened()
    list(remembered.outputs(model)), list(remembered.outputs(model))
    assert counting.asked == [None, None]
    remembered.ranges(model, ["h0"])
    first, second = list(remembered.outputs(model, 2)), list(remembered.outputs(model, 2))
    assert counting.asked[2:] == [["h0"], 2] and len(first) == 2
    np.testing.assert_array_equal(first[1]["logits"], second[1]["logits"])


def test_what_memory_does_not_hold_is_asked_for_again() -> None:
    model, counting, remembered = opened(most_bytes=10)
    sites = list(all_sites(model))
    for _ in range(2):
        assert [site for site, _ in remembered.sites(model, sites)] == sites
    assert len(counting.asked) == 2


def test_what_cannot_be_seen_is_told_each_time() -> None:
    model, counting, remembered = opened()
    for _ in range(2):
        assert not remembered.ranges(model, ["nowhere"]) and "nowhere" in remembered.unseen
    assert len(counting.asked) == 1
    remembered.ranges(model, ["h0"])
    assert not remembered.unseen
