"""What the calibration engine holds at a time does not grow with values or samples."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from graphwright.backends.ort.backend import OrtBackend
from graphwright.compiler.calibration import moments as moments_module
from graphwright.compiler.calibration import probe as probe_module
from graphwright.compiler.calibration.packing import packed
from graphwright.compiler.core.backend import Array, Runner, Sample
from graphwright.compiler.core.sites import all_sites

from .engines import chain, rows, watched


def test_values_that_do_not_fit_together_are_never_made_together() -> None:
    model = chain(8, 64)
    one = 512 * 64 * 4
    found, seen = watched(model, rows(*[512] * 3, width=64), budget=2 * 2 * 3 * one)
    found.ranges(model, [f"v{place}" for place in range(1, 9)])
    assert max(seen.largest) <= 3 * one
    assert seen.runs == 1 + 3 * 3 and seen.most_open == 1 and seen.open == 0  # The sizes once, then three groups of at most three.


def test_a_sample_much_larger_than_the_first_is_taken_in_smaller_groups() -> None:
    model = chain(8, 64)
    one = 512 * 64 * 4
    samples = rows(1, 1, 512, 1, width=64)
    found, seen = watched(model, samples, budget=2 * 2 * 3 * one)
    ranges = found.ranges(model, [f"v{place}" for place in range(1, 9)])
    assert max(seen.largest) <= 3 * one and seen.open == 0
    assert all(item.histogram.counts.sum() == 515 * 64 for item in ranges.values())


def test_no_value_is_held_while_the_next_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    model = chain(6)
    alive: list[int] = []
    held: list[np.ndarray] = []
    real = probe_module.observe

    def observe(runner: Runner, sample: Sample, names: list[str]) -> list[Array]:
        found = real(runner, sample, names)
        held[:] = [array.view() for array in found if isinstance(array, np.ndarray)]
        return found

    monkeypatch.setattr(probe_module, "observe", observe)
    with probe_module.Probes(model, [f"v{place}" for place in range(1, 7)], OrtBackend().reference, 1 << 20, 1 << 20) as probes:
        import sys

        def visit(_: str, array: np.ndarray) -> None:
            alive.append(sum(sys.getrefcount(view.base) > 2 for view in held))

        probes.show(rows(3)[0], visit)
    assert alive == [6, 5, 4, 3, 2, 1]


def test_statistics_not_asked_for_are_not_collected() -> None:
    model = chain(6, 32)
    held = 8 * 32 * 38
    found, seen = watched(model, rows(4, 4, width=32), budget=2 * 2 * held)
    iterator = found.sites(model, list(all_sites(model)))
    next(iterator)
    assert seen.runs == 1 + 2  # The sizes, and both samples for the first group of two.
    assert len(list(iterator)) == 5 and seen.runs == 1 + 3 * 2


def test_what_is_collected_does_not_grow_with_the_samples() -> None:
    sizes = []
    for count in (10, 1000):
        collector = moments_module.Moments(2, 3, moments=True, rows=7, seed=0)
        for place in range(count):
            collector.add(np.full((2, 5, 3), place, np.float32))
        sizes.append(sum(array.nbytes for array in vars(collector).values() if isinstance(array, np.ndarray)))
    assert sizes[0] == sizes[1]


def test_packing_keeps_the_order_and_the_budget() -> None:
    sizes = dict(zip("abcdef", (3, 1, 9, 1, 1, 1), strict=True))
    groups = list(packed(sizes, dict.fromkeys(sizes, 0), 8))
    assert list(itertools.chain(*groups)) == list("abcdef")
    assert groups == [["a", "b"], ["c"], ["d", "e", "f"]]
    assert list(packed(dict.fromkeys("ab", 0), {"a": 5, "b": 6}, 10)) == [["a"], ["b"]]
