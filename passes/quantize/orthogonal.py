"""Orthogonal matrices: Hadamard's, random ones, and random ones made of Hadamard's."""

from __future__ import annotations

import numpy as np

__all__ = ["hadamard", "hadamard_order", "random_hadamard", "random_orthogonal"]

LARGEST_PALEY = 512


def hadamard_order(size: int) -> int:
    """The greatest divisor of ``size`` for which `hadamard` has a matrix: 2^k, or 2^k (q + 1) with a prime q = 3 (mod 4)."""
    twos = size & -size
    odd = size // twos
    best = twos
    for part in range(3, odd + 1, 2):
        if odd % part:
            continue
        for power in (2**exponent for exponent in range(2, twos.bit_length())):
            if power * part <= LARGEST_PALEY and _is_paley(power * part):
                best = max(best, twos * part)
    return best


def hadamard(size: int) -> np.ndarray:
    """A matrix of 1 and -1 with orthogonal rows, float64 [size, size]: Sylvester's doublings of a 1 or of one of Paley's (1933, construction I).

    Raises ValueError for a size that is not its own `hadamard_order`.
    """
    if size < 1 or hadamard_order(size) != size:
        raise ValueError(f"no Hadamard matrix of size {size} is known here")
    twos = size & -size
    odd = size // twos
    core, rest = np.ones((1, 1)), twos
    if odd > 1:
        power = next(2**exponent for exponent in range(2, twos.bit_length()) if _is_paley(2**exponent * odd))
        core, rest = _paley(power * odd), twos // power
    while rest > 1:
        core, rest = np.block([[core, core], [core, -core]]), rest // 2
    return core


def random_orthogonal(size: int, random: np.random.Generator) -> np.ndarray:
    """A uniformly random orthogonal matrix, float64 [size, size] (Stewart 1980: QR of Gaussian numbers, with the signs of R's diagonal moved over)."""
    basis, triangle = np.linalg.qr(random.standard_normal((size, size)))
    return np.asarray(basis * np.where(np.diagonal(triangle) < 0, -1.0, 1.0))


def random_hadamard(size: int, random: np.random.Generator) -> np.ndarray:
    """A random orthogonal matrix that spreads every axis over (nearly) all others evenly, float64 [size, size].

    A Hadamard matrix with random signs of its inputs, over sqrt(size); where there is none of this size, the greatest one that divides it, Kronecker a
    random orthogonal matrix of the rest (QuIP#, Tseng et al. 2024, section 3; QuIP's Kronecker products of two).
    """
    order = hadamard_order(size)
    turn = hadamard(order) / np.sqrt(order)
    if order < size:
        turn = np.kron(turn, random_orthogonal(size // order, random))
    return np.asarray(turn * random.choice([-1.0, 1.0], size))


def _is_paley(size: int) -> bool:
    prime = size - 1
    return prime % 4 == 3 and all(prime % factor for factor in range(2, int(prime**0.5) + 1))


def _paley(size: int) -> np.ndarray:
    """Paley's first construction for a prime q = size - 1 = 3 (mod 4): I + S, S skew with the quadratic residues mod q."""
    prime = size - 1
    residues = set((np.arange(1, prime) ** 2 % prime).tolist())
    character = np.array([0] + [1 if value in residues else -1 for value in range(1, prime)])
    skew = np.zeros((size, size))
    skew[0, 1:], skew[1:, 0] = 1, -1
    skew[1:, 1:] = character[(np.arange(prime)[None, :] - np.arange(prime)[:, None]) % prime]
    return skew + np.eye(size)
