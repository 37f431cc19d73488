"""A calibration that was killed goes on, and what was collected for something else is not used."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from graphwright.compiler.core.sites import all_sites

from .engines import Watched, chain, engine, rows


def test_a_calibration_that_was_killed_goes_on_where_it_stopped(own_cache: Path) -> None:
    model, samples = chain(3, 32), [*rows(4, 4, width=32), {"v0": np.zeros((1, 5), np.float32)}]
    sites = list(all_sites(model))
    options: dict[str, object] = {"budget": 2 * 8 * 32 * 38, "keep_seconds": 0.0}
    first = engine(model, samples, **options)
    interrupted = first.sites(model, sites, rows=3)
    expected = [next(interrupted), next(interrupted)]
    assert len(list((own_cache / "calibration").glob("*.npz"))) == 2

    second = engine(model, samples, **options)
    second.backend = Watched()  # type: ignore[assignment]
    found = list(second.sites(model, sites, rows=3))
    assert second.backend.runs == 1 + 2  # type: ignore[attr-defined]
    assert [item.name for item in second.data.skipped] == ["sample 2"]
    for (site, (one,)), (other_site, (other,)) in zip(expected, found[:2], strict=True):
        assert site is other_site
        for name in ("moment", "low", "high", "abs_max", "abs_mean", "mean", "rows", "count", "strange"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_ranges_are_kept_and_found_again() -> None:
    model, samples = chain(2), rows(4, 4)
    first = engine(model, samples, keep_seconds=0.0).ranges(model, ["v1", "v2"])
    second = engine(model, samples, keep_seconds=0.0)
    second.backend = Watched()  # type: ignore[assignment]
    found = second.ranges(model, ["v1", "v2"])
    assert second.backend.runs == 1  # type: ignore[attr-defined]
    for name, item in first.items():
        assert (item.low, item.high, item.strange) == (found[name].low, found[name].high, found[name].strange)
        np.testing.assert_array_equal(item.histogram.counts, found[name].histogram.counts)
        np.testing.assert_array_equal(item.histogram.edges, found[name].histogram.edges)


@pytest.mark.parametrize("change", ["weight", "data", "question", "broken"])
def test_statistics_of_something_else_are_not_used(change: str, own_cache: Path) -> None:
    model, samples = chain(2), rows(4, 4)
    engine(model, samples, keep_seconds=0.0).ranges(model, ["v1"])
    asked = ["v1"]
    if change == "weight":
        model.graph.initializers["w0"].const_value = ir.tensor(np.eye(4, dtype=np.float32), name="w0")
    elif change == "data":
        samples = rows(4, 5)
    elif change == "question":
        asked = ["v2"]
    else:
        next((own_cache / "calibration").glob("*.npz")).write_bytes(b"PK")
    again = engine(model, samples)
    again.backend = Watched()  # type: ignore[assignment]
    again.ranges(model, asked)
    assert again.backend.runs == 1 + 2  # type: ignore[attr-defined]


def test_quick_groups_are_not_kept(own_cache: Path) -> None:
    model = chain(2)
    engine(model, rows(2)).ranges(model, ["v1"])
    assert not (own_cache / "calibration").exists()
