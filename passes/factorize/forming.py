"""From a weight and what it may keep to its factors."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ...compiler.core.reasons import Skip, skip
from ...compiler.core.sites import Site
from ...compiler.core.statistics import SiteStatistics
from ..quantize.hessian import output_error
from .compose import Product
from .factors import Stage, kernel_of
from .method import Decomposition, KernelMethod, LowRank, MatrixMethod, Method, finite
from .ranks import rank_at
from .refitting import matrix_of
from .subjects import Subject
from .svd import decomposed
from .tucker import Tucker

__all__ = ["Former", "Room", "decomposition_of", "refusal_of"]


@dataclass(frozen=True)
class Room:
    """What a weight may keep: this ``share`` of its numbers; or a ``rank``; or what keeps a share of the ``energy``; or what is no noise (``variational``).

    A rank is a ``multiple``.
    """

    share: float
    rank: int = 0
    energy: float = 0.0
    multiple: int = 1
    variational: bool = False

    def rounded(self, rank: int) -> int:
        """A rank as a multiple: the next lower one, or the least."""
        return max(rank // self.multiple, 1) * self.multiple if self.multiple > 1 else rank


@dataclass
class Former:
    """Forms products by a method. ``ranks`` says what some weights were allotted, by the name of their subject (None: they stay).

    Ranks are whole numbers: what one weight leaves of its share (``spare``) is given to the next.
    """

    method: Method
    room: Room
    ranks: Mapping[str, int | None] = field(default_factory=dict)
    spare: int = field(default=0, init=False)

    def product(self, subject: Subject, statistics: list[SiteStatistics] | None) -> Product | Skip:
        """What a weight becomes; why nothing. Raises ModelError for a weight that is not finite."""
        whole = subject.first.parameters
        if self.ranks.get(subject.name, 0) is None:
            return skip("the ratio is better spent on other sites")
        kernels = isinstance(self.method, KernelMethod)
        found = self._stages(subject, self.method, statistics) if isinstance(self.method, KernelMethod) else self._factors(subject, statistics)
        if isinstance(found, Skip):
            return found
        if found.numbers >= whole:
            text = "in the form '%s' it has %d numbers, and %d as it is" if kernels else "at %s it has %d numbers, and %d as it is"
            return skip(text, found.form, found.numbers, whole)
        if not (self.room.rank or self.room.energy or self.room.variational or self.ranks):
            self.spare = max(self.spare + int(self.room.share * whole) - found.numbers, 0)
        return found

    def _factors(self, subject: Subject, statistics: list[SiteStatistics] | None) -> Product | Skip:
        matrices = subject.matrices()
        shape = matrices.shape[1:]
        least = self._numbers(shape, 1) if isinstance(self.method, LowRank) else 1
        room = int(self.room.share * math.prod(shape)) + self.spare // len(matrices)
        allotted = self.ranks.get(subject.name) or self.room.rank
        if allotted:
            room = self._numbers(shape, self.room.rounded(min(allotted, *shape)))
        if room < least and not self.room.energy:
            return skip("a weight [%d, %d] has %d numbers even at rank 1", *shape, least)
        known = statistics if statistics is not None else [None] * len(matrices)
        if isinstance(self.method, LowRank):
            wanted = None if self.room.energy else self.room.rounded(self.method.within(shape[0], shape[1], room))
            parts = [decomposition_of(subject, self.method, matrix, one, wanted) for matrix, one in zip(matrices, known, strict=True)]
            rank = self.room.rounded(max(rank_at(part.lost, self.room.energy) for part in parts)) if wanted is None else wanted
            return Product.of_factors([part.cut(rank) for part in parts])
        assert isinstance(self.method, MatrixMethod)
        return Product.of_factors([self.method.factor(matrix, one, room) for matrix, one in zip(matrices, known, strict=True)])

    def _numbers(self, shape: tuple[int, ...], rank: int) -> int:
        assert isinstance(self.method, MatrixMethod)
        return self.method.numbers(shape[0], shape[1], rank)

    def _stages(self, subject: Subject, method: KernelMethod, statistics: list[SiteStatistics] | None) -> Product | Skip:
        kernels = [finite(kernel) for kernel in subject.kernels()]
        shape = kernels[0].shape
        known = statistics if statistics is not None else [None] * len(kernels)

        def made(rank: int) -> list[list[Stage]]:
            return [method.factor(kernel, one, rank) for kernel, one in zip(kernels, known, strict=True)]

        most = method.most(shape)
        if self.room.variational and isinstance(method, Tucker):
            rank = max(method.chosen(kernel) for kernel in kernels)
        elif self.room.energy:
            rank = _least(most, lambda rank: _kept(kernels, made(rank), known) >= self.room.energy)
        elif self.room.rank:
            rank = min(self.room.rank, most)
        else:
            room = self.room.share * math.prod(shape) + self.spare // len(kernels)
            if isinstance(method, Tucker):
                return _narrowed(method, kernels, known, room)
            rank = _least(most + 1, lambda rank: method.numbers(shape, rank) > room) - 1
        if rank < 1:
            return skip("a kernel [%s] has %d numbers even at rank 1", ", ".join(map(str, shape)), method.numbers(shape, 1))
        rank = self.room.rounded(rank)
        return Product.of_stages(made(min(rank, most)), f"{method.name} {min(rank, most)}")


def _narrowed(method: Tucker, kernels: Sequence[np.ndarray], known: Sequence[SiteStatistics | None], room: float) -> Product | Skip:
    """Kernels between two products of one tap, as wide as the room lets them be."""
    pairs = [method.within(kernel, room) for kernel in kernels]
    outer, inner = (min(pair[place] for pair in pairs) for place in (0, 1))
    if not outer:
        return skip("a kernel [%s] has more numbers than it may keep even at rank 1", ", ".join(map(str, kernels[0].shape)))
    parts = [method.at(kernel, one, (outer, inner)) for kernel, one in zip(kernels, known, strict=True)]
    return Product.of_stages(parts, f"{method.name} {inner} to {outer}")


def refusal_of(site: Site, method: Method) -> str | None:
    """Why a site is not for a method, as far as its form tells."""
    if isinstance(method, KernelMethod):
        if site.kind != "Conv":
            return f"{method.name} factorises convolutions, and this is a {site.kind}"
        shape = (site.shape[0] // site.groups, *site.shape[1:])
        if min(shape[:2]) == 1:
            return f"each of its {site.groups} groups has one channel: there is nothing to narrow"
        return method.refusal(shape)
    if site.kind == "Gather" and not isinstance(method, LowRank):
        return f"{method.name} has no use for an embedding"
    if site.groups > 1 and min(site.matrices().shape[1:]) == 1:
        return f"each of its {site.groups} groups has one channel: there is nothing to narrow"
    return None


def decomposition_of(
    subject: Subject, method: Method, matrix: np.ndarray, statistics: SiteStatistics | None, rank: int | None = None
) -> Decomposition:
    """One group of a weight [K, M] by a method; an embedding by how often each of its rows is asked for, where that is known.

    ``rank`` is how many terms will be kept, where that is known.
    """
    assert isinstance(method, LowRank)
    if subject.first.kind != "Gather":
        return method.decompose(finite(matrix), statistics) if rank is None else method.decompose_for(finite(matrix), statistics, rank)
    if statistics is None or not statistics.moment.any():
        return decomposed(finite(matrix))
    often = np.sqrt(statistics.moment + statistics.moment.mean())
    found = decomposed(finite(matrix) * often[:, None])
    return Decomposition(found.left / often[:, None], found.values, found.right)


def _kept(kernels: list[np.ndarray], groups: list[list[Stage]], known: Sequence[SiteStatistics | None]) -> float:
    """The share of the outputs' energy that stages keep; of the weights', without calibration data."""
    wrong = right = 0.0
    for kernel, stages, one in zip(kernels, groups, known, strict=True):
        matrix = matrix_of(kernel)
        moment = one.moment if one is not None and one.moment.size else np.eye(len(matrix))
        wrong += float(output_error(matrix_of(kernel_of(stages)) - matrix, moment).sum())
        right += float(output_error(matrix, moment).sum())
    return 1 - wrong / right if right > 0 else 1.0


def _least(most: int, holds: Callable[[int], bool]) -> int:
    """The least number from 1 on for which something holds, by bisection; ``most`` when it holds for none below."""
    low, high = 1, most
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle + 1, high)
    return low
