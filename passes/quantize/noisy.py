"""Sites that make much of the noise and hold few weights: they stay in float where that is worth the time."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from ...compiler.core.sites import Site

__all__ = ["FLOATS", "SMALL", "Noise", "loud_sites"]

SMALL = 0.002
"""Of all weights: as much may stay in float because it makes so much noise, whatever it takes."""
FLOATS = 1 / 128
"""Of all weights: as many may stay where the time is known. Four bytes instead of one for each, that is 2 % of the file."""
LOUD, MUCH, WORTH, NOISE_SAMPLES = 1e-3, 0.1, 0.5, 16
"""Small sites are looked at where outputs change by the first; one stays when alone it makes the second of that, and with all gone the third is left."""
SLOWER = 1.25
"""So many times as long may the model take for having half of the noise."""


@dataclass(frozen=True)
class Noise:
    """What is asked about sets of quantised sites.

    ``of`` says how much the outputs change, ``alone`` with a single site, on a few samples; ``time`` how many times as long the model takes with the second
    set as with the first, None where it is not known. ``total`` weights are there, of which ``spent`` are in float already.
    """

    of: Callable[[Sequence[Site]], float]
    alone: Callable[[Site], float]
    time: Callable[[Sequence[Site], Sequence[Site]], float | None]
    total: int
    spent: int
    timed: bool


def loud_sites(sites: Sequence[Site], noise: Noise) -> dict[Site, str]:
    """Those to leave in float, and why: at least half of the noise is gone without them, and then half of the rest, as long as that can be had."""
    left: dict[Site, str] = {}
    heard: dict[Site, float] = {}
    while True:
        rest = [site for site in sites if site not in left]
        found = _louder(rest, noise, _weights(left), heard)
        if not found:
            return left
        left |= found


def _louder(sites: Sequence[Site], noise: Noise, left: int, heard: dict[Site, float]) -> dict[Site, str]:
    """More of them, where there are ``left`` weights already."""
    free = int(SMALL * noise.total) - left
    room = max(free, int(FLOATS * noise.total) - noise.spent - left) if noise.timed else free
    small = [site for site in sites if site.parameters <= room]
    if not small or (loss := noise.of(sites)) < LOUD or noise.of(_without(sites, small)) > WORTH * loss:
        return {}
    heard.update({site: noise.alone(site) for site in small if site not in heard})
    loud: list[Site] = []
    for site in sorted(small, key=lambda one: -heard[one]):
        if heard[site] >= MUCH * loss and _weights([*loud, site]) <= room:
            loud.append(site)
    while loud and noise.of(_without(sites, loud)) <= WORTH * loss:
        if _weights(loud) <= free or _is_quick(noise.time(sites, _without(sites, loud))):
            return {site: _told(site, heard[site] / loss, noise.total) for site in loud}
        loud.pop()
    return {}


def _is_quick(ratio: float | None) -> bool:
    return ratio is not None and ratio <= SLOWER


def _told(site: Site, share: float, total: int) -> str:
    return f"rounding it alone adds {share:.0%} of the noise that all rounded sites together do, and it has {site.parameters:,} of {total:,} weights"


def _without(sites: Sequence[Site], left: Collection[Site]) -> list[Site]:
    return [site for site in sites if site not in left]


def _weights(sites: Collection[Site]) -> int:
    return sum(site.parameters for site in sites)
