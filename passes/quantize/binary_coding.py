"""Weights as sums of signs with scales, fitted by turns."""

from __future__ import annotations

import itertools

import numpy as np

from .coded import Binaries
from .halves import halved
from .steps import block_rows, block_starts

__all__ = ["by_turns", "fit_binaries"]

RIDGE = 1e-9


def fit_binaries(weight: np.ndarray, planes: int, block: int, weights: np.ndarray, offset: bool, rounds: int) -> Binaries:
    """``weight`` [K, M] as the sum of ``planes`` sign matrices times a scale for each block and column, plus an ``offset`` for each.

    The squared error of row k counts ``weights[k]``. Both the greedy start (Guo et al. 2017: signs of what is left, its mean magnitude) and that of even steps
    (scales 1, 2, 4, ...) are refined by turns: scales and offset by least squares for the signs, signs by the nearest of all 2^planes sums for the scales
    (Xu et al. 2018, "Alternating multi-bit quantization", algorithm 2); each column of a block keeps the better one.
    """
    step = block_rows(block, len(weight))
    parts = [_fit_block(weight[start : start + step].astype(np.float64), planes, weights[start : start + step], offset, rounds)
             for start in block_starts(block, len(weight))]  # fmt: skip
    signs = np.concatenate([part[0] for part in parts], axis=1)
    scales, scale_bits = halved(np.stack([part[1][:planes] for part in parts], axis=1))
    if not offset:
        return Binaries(signs, scales, step, scale_bits=scale_bits)
    middle, middle_bits = halved(np.stack([part[1][planes] for part in parts]))
    return Binaries(signs, scales, step, middle, scale_bits=max(scale_bits, middle_bits))


def _fit_block(weight: np.ndarray, planes: int, weights: np.ndarray, offset: bool, rounds: int) -> tuple[np.ndarray, np.ndarray]:
    """Signs int8 [q, r, M] and coefficients float64 [q, M] ([q + 1, M] with an offset) of one block."""
    weights = weights if weights.any() else np.ones(len(weights))
    best: tuple[np.ndarray, np.ndarray] | None = None
    least = np.full(weight.shape[1], np.inf)
    for start in (_greedy(weight, planes, offset), _even(weight, planes, offset)):
        signs, numbers = by_turns(weight, start, planes, weights, offset, rounds)
        error = weights @ np.square(weight - _value(signs, numbers))
        better = error < least
        least = np.where(better, error, least)
        best = (signs, numbers) if best is None else (np.where(better, signs, best[0]), np.where(better, numbers, best[1]))
    assert best is not None
    return best


def by_turns(weight: np.ndarray, numbers: np.ndarray, planes: int, weights: np.ndarray, offset: bool, rounds: int) -> tuple[np.ndarray, np.ndarray]:
    """Signs int8 [q, r, M] and coefficients [q, M] ([q + 1, M] with an offset) of a block [r, M], refined from coefficients to start with."""
    signs = _assigned(weight, numbers, planes)
    for _ in range(rounds):
        numbers = _solved(weight, signs, weights, offset)
        found = _assigned(weight, numbers, planes)
        if np.array_equal(found, signs):
            break
        signs = found
    return signs, numbers


def _assigned(weight: np.ndarray, numbers: np.ndarray, planes: int) -> np.ndarray:
    """For each number the signs whose sum is nearest: int8 [q, r, M]."""
    combinations = np.array(list(itertools.product((-1, 1), repeat=planes)), np.int8)
    sums = combinations @ numbers[:planes] + (numbers[planes] if len(numbers) > planes else 0.0)
    order = np.argsort(sums, axis=0, kind="stable")
    ranked = np.take_along_axis(sums, order, axis=0)
    place = np.zeros(weight.shape, np.int64)
    for border in (ranked[1:] + ranked[:-1]) / 2:
        place += weight > border
    return np.moveaxis(combinations[np.take_along_axis(order, place, axis=0)], -1, 0)


def _solved(weight: np.ndarray, signs: np.ndarray, weights: np.ndarray, offset: bool) -> np.ndarray:
    """Weighted least squares of each column on its signs (and on 1)."""
    basis = signs.astype(np.float64)
    if offset:
        basis = np.concatenate([basis, np.ones((1, *weight.shape))])
    weighted = basis * weights[:, None]
    gram = np.einsum("irm,jrm->mij", weighted, basis)
    gram += RIDGE * weights.sum() * np.eye(len(basis))
    return np.linalg.solve(gram, np.einsum("irm,rm->mi", weighted, weight)[..., None])[..., 0].T


def _value(signs: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    found = np.einsum("irm,im->rm", signs.astype(np.float64), numbers[: len(signs)])
    return found + numbers[-1] if len(numbers) > len(signs) else found


def _greedy(weight: np.ndarray, planes: int, offset: bool) -> np.ndarray:
    middle = weight.mean(axis=0) if offset else np.zeros(weight.shape[1])
    left, scales = weight - middle, []
    for _ in range(planes):
        scales.append(np.abs(left).mean(axis=0))
        left = left - np.where(left >= 0, scales[-1], -scales[-1])
    return np.stack([*scales, middle] if offset else scales)


def _even(weight: np.ndarray, planes: int, offset: bool) -> np.ndarray:
    low, high = weight.min(axis=0), weight.max(axis=0)
    if not offset:
        high = np.maximum(np.abs(low), np.abs(high))
        low = -high
    step = (high - low) / 2 / (2**planes - 1)
    scales = [step * 2**plane for plane in range(planes)]
    return np.stack([*scales, (high + low) / 2] if offset else scales)
