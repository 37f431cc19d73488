"""The sites that read what the members of a group make, and which rows of their weights are whose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from ...compiler.core.sites import Site
from .coupling.follower import Follower
from .coupling.groups import Group, Slice
from .coupling.shrinking import kept

__all__ = ["Reader", "find_readers", "input_axis", "left_channels", "output_axis"]


@dataclass(frozen=True)
class Reader:
    """A site that sums over the members of a group: ``places`` int64 [members, n] are their rows of the unfolded weight [K, M]."""

    site: Site
    group: Group
    places: np.ndarray


def find_readers(groups: Sequence[Group], sites: Sequence[Site]) -> list[Reader]:
    """Every pair of a group and a site of one group of channels that reads it, in the order of the sites."""
    at: dict[tuple[ir.Value, int], list[tuple[Group, Slice]]] = {}
    for group in groups:
        for item in group.slices:
            at.setdefault((item.weight, item.axis), []).append((group, item))
    found = []
    for site in sites:
        if site.kind != "Gather" and site.groups == 1:
            found += [Reader(site, group, _rows(site, item)) for group, item in at.get((site.weight, input_axis(site)), [])]
    return found


def left_channels(follower: Follower, sites: Sequence[Site], gone: Sequence[int] | np.ndarray) -> dict[str, np.ndarray]:
    """Which output channels of each site are left, by its name, where some are of classes that go."""
    found = {}
    for site in sites:
        axes = follower.axes_of(site.node.outputs[0])
        axis = axes[output_axis(site)] if axes else None
        keeps = kept(follower, np.asarray(gone), axis)
        if not keeps.all():
            found[site.name] = np.flatnonzero(keeps)
    return found


def output_axis(site: Site) -> int:
    """Which axis of what the site makes counts its output channels."""
    if site.kind in ("Conv", "ConvTranspose"):
        return 1
    return -2 if site.kind == "MatMul" and site.weight_at == 0 else -1


def input_axis(site: Site) -> int:
    """Which axis of the stored weight counts the input channels (of one group)."""
    return 1 if site.kind == "Conv" else 0 if site.kind == "ConvTranspose" else 1 - site.channel_axis


def _rows(site: Site, item: Slice) -> np.ndarray:
    """A channel of a convolution has one row for each tap."""
    if site.kind != "Conv":
        return item.indices
    taps = int(np.prod(site.shape[2:]))
    return np.asarray((item.indices[:, :, None] * taps + np.arange(taps)).reshape(len(item.indices), -1))
