"""Which sites are left in float for their noise: those with few weights, and where it costs time only as much as it may."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from graphwright.compiler.core.sites import Site, all_sites
from graphwright.passes.quantize.noisy import FLOATS, SLOWER, SMALL, Noise, loud_sites

from .static_models import kernel, model_of

TOTAL = 100_000


def sites(*weights: int) -> list[Site]:
    """Sites ``s0``, ``s1``, ... with so many weights each."""
    text = " ".join(f"s{place} = MatMul(x, w{place})" for place in range(len(weights)))
    outputs = ", ".join(f"float[1,{count}] s{place}" for place, count in enumerate(weights))
    constants = {f"w{place}": kernel(1, count) for place, count in enumerate(weights)}
    return list(all_sites(model_of(f"g (float[1,1] x) => ({outputs}) {{ {text} }}", constants)))


def asked(shares: Mapping[str, float], *, ratio: float | None = 1.0, timed: bool = True, spent: int = 0) -> Noise:
    """Sites whose noises add up."""

    def of(chosen: Sequence[Site]) -> float:
        return sum(shares[site.name] for site in chosen)

    return Noise(of, lambda site: shares[site.name], lambda before, after: ratio, TOTAL, spent, timed)


def named(found: Mapping[Site, str]) -> list[str]:
    return [site.name for site in found]


ROOMY, TINY = int(FLOATS * TOTAL) // 2, int(SMALL * TOTAL) // 2


@pytest.mark.parametrize(("ratio", "left"), [(1.0, ["s0"]), (SLOWER, ["s0"]), (SLOWER + 0.01, []), (None, [])])
def test_more_weights_stay_only_where_the_time_is_known_to_allow_it(ratio: float | None, left: list[str]) -> None:
    assert named(loud_sites(sites(ROOMY, 50_000), asked({"s0": 0.08, "s1": 0.01}, ratio=ratio))) == left


def test_without_a_clock_only_next_to_no_weights_stay() -> None:
    shares = {"s0": 0.08, "s1": 0.01}
    assert not loud_sites(sites(ROOMY, 50_000), asked(shares, timed=False))
    assert named(loud_sites(sites(TINY, 50_000), asked(shares, timed=False))) == ["s0"]


def test_next_to_no_weights_stay_whatever_it_takes() -> None:
    assert named(loud_sites(sites(TINY, 50_000), asked({"s0": 0.08, "s1": 0.01}, ratio=9.0))) == ["s0"]


def test_the_least_loud_are_given_up_first_until_the_time_allows_it() -> None:
    shares = {"s0": 0.01, "s1": 0.06, "s2": 0.005}
    noise = asked(shares)
    times = {1: 1.3, 2: 1.1}
    quick = Noise(noise.of, noise.alone, lambda before, after: times[len(after)], TOTAL, 0, True)
    assert named(loud_sites(sites(ROOMY // 2, ROOMY, 50_000), quick)) == ["s1"]


def test_what_is_left_is_halved_again_as_long_as_that_can_be_had() -> None:
    shares = {"s0": 0.5, "s1": 0.03, "s2": 0.01}
    found = loud_sites(sites(TINY, TINY // 2, 50_000), asked(shares))
    assert named(found) == ["s0", "s1"]
    assert [why.split("%")[0] for why in found.values()] == ["rounding it alone adds 93", "rounding it alone adds 75"]


def test_weights_that_stay_for_their_speed_count() -> None:
    shares = {"s0": 0.08, "s1": 0.01}
    assert not loud_sites(sites(ROOMY, 50_000), asked(shares, spent=ROOMY + 100))


def test_where_next_to_nothing_changes_all_are_rounded() -> None:
    assert not loud_sites(sites(TINY, 50_000), asked({"s0": 8e-4, "s1": 1e-4}))


def test_no_more_weights_stay_than_may() -> None:
    count = 8
    each = int(FLOATS * TOTAL) // 4 + 1
    shares = {f"s{place}": 0.1 if place < 4 else 0.001 for place in range(count + 1)}
    found = loud_sites(sites(*[each] * count, 50_000), asked(shares))
    assert named(found) == ["s0", "s1", "s2"]
    assert sum(site.parameters for site in found) <= FLOATS * TOTAL
