"""Clusters of numbers: the codebooks of weights."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .coded import HALF_BITS

__all__ = ["book_pays", "book_steps", "cluster", "nearest_codes"]

ROUNDS = 25
MOST_PARTS = 32
MOST_BORDERS = 256
DEAREST_BOOK = 0.125
"""Bits a weight that a column's own book may cost: it saves about a tenth of the error, and so does a sixth of a bit."""


def cluster(values: np.ndarray, count: int, weights: np.ndarray | None = None, rounds: int = ROUNDS) -> np.ndarray:
    """Books float64 [count, M], rising, one for each column of ``values`` [K, M]: the centres with (locally) the least squared distance.

    ``weights`` [K] or [K, M] are what a number's error counts. In sorted numbers a cluster is an interval and its mean a difference of running sums. Up to 32
    entries start from the best partition by dynamic programming (Bruce 1965) over at most 256 borders, which is exact for as many different numbers; more
    start from even steps or from equal shares of the cube root of the density (Panter and Dite 1951). Lloyd's algorithm then moves them.
    """
    order = np.argsort(values, axis=0, kind="stable")
    ranked = np.take_along_axis(values, order, axis=0).astype(np.float64)
    mass = np.ones(values.shape) if weights is None else np.broadcast_to(weights if weights.ndim > 1 else weights[:, None], values.shape)
    mass = np.take_along_axis(mass, order, axis=0).astype(np.float64)
    found = np.empty((count, values.shape[1]))
    for column in range(values.shape[1]):
        found[:, column] = _best_book(ranked[:, column], mass[:, column], count, rounds)
    return found


def book_pays(rows: int, bits: int) -> bool:
    """Whether a half-precision book for each column of ``rows`` numbers takes at most an eighth of a bit for each of them."""
    return 2**bits * HALF_BITS <= DEAREST_BOOK * rows


def nearest_codes(values: np.ndarray, books: np.ndarray) -> np.ndarray:
    """Which entry of ``books`` (rising; [B], or [B, M] for each column its own) is nearest to each number of [K, M]: uint16 [K, M]."""
    if books.ndim == 1:
        return np.searchsorted((books[1:] + books[:-1]) / 2, values).astype(np.uint16)
    borders = (books[1:] + books[:-1]) / 2
    found = np.empty(values.shape, np.uint16)
    for column in range(values.shape[1]):
        found[:, column] = np.searchsorted(borders[:, column], values[:, column])
    return found


def book_steps(books: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """The function that moves numbers [M] to the nearest entries of ``books`` [B, M]."""
    borders = (books[1:] + books[:-1]) / 2
    return lambda values: np.take_along_axis(books, (values > borders).sum(axis=0)[None], axis=0)[0]


def _best_book(ranked: np.ndarray, mass: np.ndarray, count: int, rounds: int) -> np.ndarray:
    """The best book of one sorted column."""
    if not mass.sum() > 0:
        mass = np.ones(len(ranked))
    middle = ranked.mean()
    centred = ranked - middle
    sums, firsts = np.concatenate([[0.0], np.cumsum(mass)]), np.concatenate([[0.0], np.cumsum(mass * centred)])
    starts = (_partitioned(centred, sums, firsts, count),) if count <= MOST_PARTS else (_even(centred, count), _by_root_share(centred, mass, count))
    found = [_lloyd(centred, start, sums, firsts, rounds) for start in starts]
    return np.sort(max(found, key=lambda pair: pair[1])[0]) + middle


def _partitioned(ranked: np.ndarray, sums: np.ndarray, firsts: np.ndarray, count: int) -> np.ndarray:
    """The book of the partition that explains most, its borders taken from `_borders`."""
    edges = _borders(ranked)
    held, first = sums[edges][None] - sums[edges][:, None], firsts[edges][None] - firsts[edges][:, None]
    gain = np.divide(first * first, held, out=np.zeros_like(held), where=held > 0)
    gain[np.tril_indices(len(edges), -1)] = -np.inf
    best, steps = gain[0], []
    for _ in range(count - 1):
        total = best[:, None] + gain
        steps.append(total.argmax(axis=0))
        best = total[steps[-1], np.arange(len(edges))]
    ends = [len(edges) - 1]
    for step in reversed(steps):
        ends.append(int(step[ends[-1]]))
    cuts = edges[[0, *reversed(ends)]]
    held, first = np.diff(sums[cuts]), np.diff(firsts[cuts])
    return np.where(held > 0, np.divide(first, held, out=np.zeros_like(held), where=held > 0), ranked[np.minimum(cuts[:-1], len(ranked) - 1)])


def _borders(ranked: np.ndarray) -> np.ndarray:
    """Where intervals of sorted numbers may begin and end: between all different numbers, or between some evenly many and some evenly far apart."""
    changes = np.flatnonzero(np.diff(ranked)) + 1
    if len(changes) > MOST_BORDERS:
        half = MOST_BORDERS // 2
        changes = np.union1d(changes[np.arange(half) * len(changes) // half], np.searchsorted(ranked, np.linspace(ranked[0], ranked[-1], half)))
        changes = changes[(changes > 0) & (changes < len(ranked))]
    return np.concatenate([[0], changes, [len(ranked)]])


def _lloyd(ranked: np.ndarray, book: np.ndarray, sums: np.ndarray, firsts: np.ndarray, rounds: int) -> tuple[np.ndarray, float]:
    """A book and what it explains: the sum over clusters of ``(sum w v)^2 / sum w``, which is all squares less the squared distance."""
    book, edges = np.sort(book), np.zeros(len(book) + 1, np.int64)
    edges[-1] = len(ranked)
    gain = 0.0
    for _ in range(rounds):
        before = edges.copy()
        edges[1:-1] = np.searchsorted(ranked, (book[1:] + book[:-1]) / 2)
        held, first = np.diff(sums[edges]), np.diff(firsts[edges])
        book = np.where(held > 0, np.divide(first, held, out=np.zeros_like(held), where=held > 0), book)
        gain = float((first * book).sum())
        if np.array_equal(edges, before):
            break
    return book, gain


def _even(ranked: np.ndarray, count: int) -> np.ndarray:
    return np.linspace(ranked[0], ranked[-1], count)


def _by_root_share(ranked: np.ndarray, mass: np.ndarray, count: int) -> np.ndarray:
    """Over bins of the range, the cube root of what falls into each."""
    if not ranked[-1] > ranked[0]:
        return np.full(count, ranked[0])
    held, edges = np.histogram(ranked, max(8, min(4 * count, len(ranked))), weights=mass)
    share = np.concatenate([[0.0], np.cumsum(np.cbrt(held))])
    return np.interp((np.arange(count) + 0.5) / count * share[-1], share, edges)
