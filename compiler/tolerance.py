"""How far a rewritten model's numbers may lie from the reference, element by element.

``exact`` means the same bits, +0 and -0 told apart, any NaN as good as another. ``reassociated`` allows rounding, in three steps:

1. *Measured.* The reference is run twice more with every input, weight and intermediate rounded to about two bits less. What that moves an
   element's neighbourhood by, times 4, is allowed: ill-conditioned models get what they need, well-conditioned ones almost nothing. On
   trained networks runtimes that fuse and reorder stay below half of the measured noise.
   Neighbourhood: the noise of an output is pooled over slices, along each axis that has enough elements, so that boxes of 640 pixels do not
   decide what a score of 0.01 may do; and where noise is proportional to the value itself, as behind a Softmax, over the ratios.
2. *Estimated.* ``growth`` (sqrt of the reduction lengths on the longest path, times the unit roundoff) times the scale of the slice is allowed
   in any case, because a few elements can be lucky in both noise runs; at most 1e-4 of the scale for 32-bit floats.
3. *Capped.* Above 1e-3 of the scale only 1.5 times the noise is allowed: there the model itself (quantised, chaotic) is that noisy.

The root mean square over an output is held to 3 times that of the noise, which sees small errors spread over everything.

Not-a-number and infinity must stand where they stood (see `Stress` for what may move), integers, booleans and strings must be equal, except
where the noise runs disagree with the reference as well; nothing is compared where a shape depends on rounding. An infinity that ordinary numbers
make is a pole, and may change its sign: 0 and -0 are the same in real arithmetic, 1 / 0 and 1 / -0 are not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import ml_dtypes
import numpy as np

from .core.backend import Array
from .core.drift import Drift
from .core.records import Difference

__all__ = ["QUIET", "Noise", "Stress", "difference", "is_float", "measure", "stress_of"]

PEAK_FACTOR = 4.0
RMS_FACTOR = 3.0
CHAOTIC_FACTOR = 1.5
CAP = 1e-3
POOL = 32
"""Fewest elements that make a slice's noise a fair estimate."""


@dataclass(frozen=True)
class Noise:
    """What rounding alone did to one output: the largest move per slice of each axis, overall, relative to the element, and on average.

    ``unsettled`` marks elements whose class (finite, NaN, +inf, -inf) or whose integer changed; ``flips`` counts them in the worst run, ``step``
    is the largest change of an integer. ``typical`` and ``typical_rms`` are what other samples' noise amounts to, as a share of the output's
    scale and of its root mean square. ``comparable`` is False when the shape itself changed.
    """

    peaks: tuple[np.ndarray | None, ...] = ()
    peak: float = 0.0
    relative: float = np.inf
    rms: float = 0.0
    unsettled: np.ndarray | None = None
    flips: int = 0
    step: float = 0.0
    typical: float = 0.0
    typical_rms: float = 0.0
    comparable: bool = True


QUIET = Noise()


@dataclass(frozen=True)
class Stress:
    """What a sample holds that real arithmetic does not know, and what a rounding rewrite may therefore change.

    - ``nan``: nothing may move. A NaN that went in comes out wherever it came out before, and nowhere else.
    - ``infinite``: inf - inf, 0 * inf and inf / inf come up or not depending on the order of operations, so NaN and inf are taken for one
      another; but what was finite stays finite and close, what was not stays not, and an infinity keeps its sign. (Folding a
      BatchNormalization keeps even more: a zero weight times inf is NaN before and after.)
    - ``large``: some number is above 1000, so that exp and powers may overflow. Where the reference overflowed a rewrite may be finite, as when
      log(1 + exp(x)) becomes Softplus; what was finite stays finite and close.
    - ``overflowing``: some number is above the square root of the largest float, so that sums of squares overflow and even finite results of the
      reference mean nothing. Only exact rewrites are held to anything but types and shapes.
    """

    nan: bool = False
    infinite: bool = False
    large: bool = False
    overflowing: bool = False

    @property
    def any(self) -> bool:
        """Whether this is no ordinary sample."""
        return self.nan or self.infinite or self.large


def stress_of(sample: Mapping[str, Array]) -> Stress:
    """Look for NaN, infinities and large numbers in the floats of a sample."""
    found = [_stress(np.asarray(array)) for value in sample.values() for array in (value if isinstance(value, list) else [value]) if array is not None]
    return Stress(*(any(getattr(item, kind) for item in found) for kind in ("nan", "infinite", "large", "overflowing")))


def _stress(numbers: np.ndarray) -> Stress:
    if not is_float(numbers.dtype) or numbers.size == 0:
        return Stress()
    wide = np.abs(numbers.astype(np.float64))
    top = float(np.max(wide, where=np.isfinite(wide), initial=0.0))
    edge = _largest(numbers.dtype) ** 0.5
    return Stress(bool(np.isnan(wide).any()), bool(np.isinf(wide).any()), top > min(1000.0, edge), top > edge)


def is_float(dtype: np.dtype) -> bool:
    """Whether an element is a real floating-point number, 16- and 8-bit ones included."""
    return dtype.kind == "f" or dtype.name.startswith(("bfloat16", "float8", "float4"))


def _largest(dtype: np.dtype) -> float:
    return float(_finfo(dtype).max)


def _finfo(dtype: np.dtype) -> np.finfo:
    return ml_dtypes.finfo(dtype)


def _floor_of(dtype: np.dtype) -> float:
    """Numbers this small have few bits left: differences below it are underflow."""
    info = _finfo(dtype)
    return float(info.tiny) if info.eps < 1e-5 else 8 * float(info.smallest_subnormal)


def _classes(numbers: np.ndarray) -> np.ndarray:
    """0 finite, 1 NaN, 2 +inf, 3 -inf."""
    return np.where(np.isfinite(numbers), 0, np.where(np.isnan(numbers), 1, np.where(numbers > 0, 2, 3))).astype(np.int8)


def measure(reference: np.ndarray, runs: Sequence[np.ndarray]) -> Noise:
    """The noise of one output from runs that rounded differently."""
    if any(run.shape != reference.shape or run.dtype != reference.dtype for run in runs):
        return Noise(comparable=False)
    if not runs or reference.size == 0:
        return QUIET
    if not is_float(reference.dtype):
        return _measure_discrete(reference, runs)
    plain = reference.astype(np.float64)
    classes = _classes(plain)
    unsettled = np.zeros(reference.shape, dtype=bool)
    moves = []
    for run in runs:
        other = run.astype(np.float64)
        unsettled |= _classes(other) != classes
        with np.errstate(invalid="ignore", over="ignore"):
            moves.append(np.where(classes == 0, np.abs(other - plain), 0.0))
    for move in moves:
        move[unsettled] = 0.0
    worst = np.maximum.reduce(moves)
    with np.errstate(over="ignore"):
        rms = float(max(np.sqrt(np.mean(np.square(move))) for move in moves))
    return Noise(_pooled(worst), float(worst.max()), _relative(worst, plain), rms, unsettled if unsettled.any() else None, int(unsettled.sum()))


def _measure_discrete(reference: np.ndarray, runs: Sequence[np.ndarray]) -> Noise:
    moved = [np.asarray(run != reference) for run in runs]
    unsettled = np.logical_or.reduce(moved)
    if not unsettled.any():
        return QUIET
    step = 0.0
    if reference.dtype.kind in "iu":
        step = max(float(np.abs(run.astype(np.float64) - reference.astype(np.float64)).max()) for run in runs)
    return Noise(unsettled=unsettled, flips=max(int(mask.sum()) for mask in moved), step=step)


def _pooled(worst: np.ndarray) -> tuple[np.ndarray | None, ...]:
    """Per axis the largest element of each slice, None where slices are too thin."""
    axes = range(worst.ndim)
    return tuple(worst.max(axis=tuple(other for other in axes if other != axis)) if _thick(worst, axis) else None for axis in axes)


def _thick(values: np.ndarray, axis: int) -> bool:
    return values.shape[axis] > 1 and values.size // values.shape[axis] >= POOL


def _relative(worst: np.ndarray, plain: np.ndarray) -> float:
    size = np.abs(plain)
    some = (size > 0) & np.isfinite(size)
    if worst.size < POOL or not some.any():
        return np.inf
    return float((worst[some] / size[some]).max())


def _local(peaks: Sequence[np.ndarray | None], overall: float, shape: tuple[int, ...]) -> np.ndarray:
    """The smallest slice maximum that each element belongs to."""
    result = np.full((1,) * len(shape), overall)
    for axis, peak in enumerate(peaks):
        if peak is not None:
            result = np.minimum(result, peak.reshape([-1 if axis == other else 1 for other in range(len(shape))]))
    return result


def _widened(noise: np.ndarray | float, scale: np.ndarray | float, factor: float) -> np.ndarray:
    return np.maximum(np.minimum(np.multiply(factor, noise), np.multiply(CAP, scale)), np.multiply(CHAOTIC_FACTOR, noise))


def _unit(dtype: np.dtype) -> float:
    return float(_finfo(dtype).eps) / 2


def _expected(dtype: np.dtype, growth: float) -> float:
    """The estimated relative error, kept between a few roundings and what is still well conditioned."""
    return min(max(growth, 4 * _unit(dtype)), max(1e-4, 64 * _unit(dtype)))


def _allowed(plain: np.ndarray, dtype: np.dtype, noise: Noise, growth: float) -> np.ndarray:
    """The largest difference allowed at each element of ``plain``."""
    unit, floor = _unit(dtype), _expected(dtype, growth)
    size = np.where(np.isfinite(plain), np.abs(plain), 0.0)
    overall = float(size.max())
    scale = _local(_pooled(size), overall, plain.shape)
    moved = np.maximum(_local(noise.peaks, noise.peak, plain.shape), noise.typical * scale)
    bound = np.maximum(_widened(moved, scale, PEAK_FACTOR), floor * scale)
    bound = np.maximum(np.broadcast_to(bound, plain.shape), 4 * unit * overall)
    if PEAK_FACTOR * noise.relative <= CAP:
        near = max(PEAK_FACTOR * max(noise.relative, noise.typical), floor) * size
        bound = np.where(size > 0, np.minimum(bound, near), bound)
    return bound + _floor_of(dtype)


def difference(
    output: str, before: np.ndarray, after: np.ndarray, drift: Drift, noise: Noise = QUIET, growth: float = 0.0, stress: Stress | None = None
) -> Difference:
    """Compare one output; ``broken`` says whether the contract was broken, ``reason`` how if not by an element's size."""
    stress = stress or Stress()
    if before.dtype.kind == after.dtype.kind == "c" and drift is not Drift.EXACT:
        before, after = (np.stack([part.real, part.imag], axis=-1) for part in (before, after))
    if before.dtype != after.dtype and drift is not Drift.LOSSY:
        return _broken(output, f"its type was {before.dtype} and became {after.dtype}")
    if before.shape != after.shape:
        return _broken(output, f"its shape was {before.shape} and became {after.shape}") if noise.comparable else _same(output)
    if drift is Drift.EXACT:
        return _exact(output, before, after)
    if before.size == 0 or not noise.comparable or stress.overflowing:
        return _same(output)
    if not is_float(before.dtype):
        return _same(output) if drift is Drift.LOSSY else _discrete(output, before, after, noise)
    return _close(output, before, after, drift, noise, growth, stress)


def _same(output: str) -> Difference:
    return Difference(output, 0.0, 0.0, 0.0)


def _broken(output: str, reason: str) -> Difference:
    return Difference(output, np.inf, np.inf, 0.0, broken=True, reason=reason)


def _exact(output: str, before: np.ndarray, after: np.ndarray) -> Difference:
    wrong = np.asarray(before != after)
    if before.dtype.kind == "c" or is_float(before.dtype):
        wrong = (wrong & ~(np.isnan(before) & np.isnan(after))) | (_sign_of_zero(before) != _sign_of_zero(after))
    if not wrong.any():
        return _same(output)
    return _at(output, before, after, _worst_of(wrong, before, after), 0.0, "")


def _sign_of_zero(numbers: np.ndarray) -> np.ndarray:
    if numbers.dtype.kind == "c":
        return _sign_of_zero(numbers.real) * 2 + _sign_of_zero(numbers.imag)
    return ((numbers == 0) & np.signbit(numbers)).astype(np.int8)


def _worst_of(wrong: np.ndarray, before: np.ndarray, after: np.ndarray) -> tuple[int, ...]:
    """The marked element that moved furthest; NaN and strings, which have no distance, come first."""
    if before.dtype.kind in "OSU":
        return _index(wrong, int(np.argmax(wrong)))
    with np.errstate(invalid="ignore", over="ignore"):
        kind = np.complex128 if before.dtype.kind == "c" else np.float64
        distance = np.abs(after.astype(kind) - before.astype(kind))
    distance = np.where(wrong, np.where(np.isnan(distance), np.inf, distance), -1.0)
    return _index(distance, int(np.argmax(distance)))


def _index(array: np.ndarray, flat: int) -> tuple[int, ...]:
    return tuple(int(place) for place in np.unravel_index(flat, array.shape))


def _at(output: str, before: np.ndarray, after: np.ndarray, place: tuple[int, ...], allowed: float, reason: str, broken: bool = True) -> Difference:
    if before.dtype.kind in "OSU":
        return Difference(output, np.inf, np.inf, 0.0, place, broken=True, reason=reason or f"{before[place]!r} became {after[place]!r}")
    old, new = float(np.real(before[place])), float(np.real(after[place]))
    distance = 0.0 if old == new or (np.isnan(old) and np.isnan(new)) else abs(new - old)
    distance = distance if np.isfinite(distance) else np.inf
    return Difference(output, distance, distance / abs(old) if old else distance, allowed, place, old, new, broken=broken, reason=reason)


def _discrete(output: str, before: np.ndarray, after: np.ndarray, noise: Noise) -> Difference:
    """Equal, except where rounding flips elements: then up to twice as many may flip; quantised numbers by up to twice as much."""
    wrong = np.asarray(before != after)
    if not wrong.any():
        return _same(output)
    new = wrong if noise.unsettled is None else wrong & ~noise.unsettled
    if before.dtype.kind in "iu" and before.dtype.itemsize <= 2 and noise.step:
        far = wrong & (np.abs(after.astype(np.float64) - before.astype(np.float64)) > 2 * noise.step)
    else:
        far = np.zeros_like(wrong)
    broken = bool(far.any()) or int(new.sum()) > 2 * noise.flips
    place = _worst_of(far if far.any() else new if new.any() else wrong, before, after)
    count = f"{int(wrong.sum())} of {wrong.size} elements differ; rounding alone changes {noise.flips}"
    found = _at(output, before, after, place, 2 * noise.step, count, broken)
    return found if broken else Difference(found.output, found.max_abs, found.max_rel, found.allowed, place, found.before, found.after, reason=count)


def _close(output: str, before: np.ndarray, after: np.ndarray, drift: Drift, noise: Noise, growth: float, stress: Stress) -> Difference:
    plain, other = before.astype(np.float64), after.astype(np.float64)
    skipped = np.zeros(plain.shape, dtype=bool) if noise.unsettled is None else noise.unsettled
    lost = _class_changes(plain, other, drift, stress, _largest(before.dtype)) & ~skipped
    if lost.any():
        place = _index(lost, int(np.argmax(lost)))
        old, new = plain[place], other[place]
        return _at(output, plain, other, place, 0.0, f"{old:.6g} became {new:.6g}")
    both = np.isfinite(plain) & np.isfinite(other) & ~skipped
    if drift is Drift.LOSSY or not both.any():
        return _same(output)
    with np.errstate(invalid="ignore", over="ignore"):
        moved = np.where(both, np.abs(other - plain), 0.0)
    allowed = _allowed(plain, before.dtype, noise, growth)
    place = _index(moved, int(np.argmax(moved / allowed)))
    limit = float(allowed[place])
    if moved[place] > limit:
        return _at(output, plain, other, place, limit, "")
    reason = _spread(moved, np.where(both, np.abs(plain), 0.0), before.dtype, noise, growth) if not stress.any else ""
    return _at(output, plain, other, place, limit, reason, broken=bool(reason))


def _spread(moved: np.ndarray, plain: np.ndarray, dtype: np.dtype, noise: Noise, growth: float) -> str:
    """What is wrong with the differences as a whole although no element is too far off; empty when nothing is."""
    if moved.size < POOL:
        return ""
    with np.errstate(over="ignore", invalid="ignore"):
        rms, level = (float(np.sqrt(np.mean(np.square(numbers)))) for numbers in (moved, plain))
    bound = float(_widened(max(noise.rms, noise.typical_rms * level), level, RMS_FACTOR))
    bound = max(bound, _expected(dtype, growth) / 2 * level, _unit(dtype) * float(plain.max(initial=0.0)))
    if not np.isfinite(rms) or rms <= bound:
        return ""
    return f"the root mean square of the differences is {rms:.3g}; rounding explains {bound:.3g}"


def _class_changes(plain: np.ndarray, other: np.ndarray, drift: Drift, stress: Stress, largest: float) -> np.ndarray:
    """Where NaN, infinity and finite numbers changed places against the contract."""
    was, now = _classes(plain), _classes(other)
    changed = was != now
    if not changed.any():
        return changed
    if drift in (Drift.DOMAIN, Drift.LOSSY):
        changed &= was == 0
        return np.zeros_like(changed) if stress.any else changed
    changed &= ~((was == 1) & (now > 1))  # Infinities of an overflow that a sum in another order does not make NaN of.
    if not stress.any:
        changed &= ~((was > 1) & (now > 1))  # A pole, 1 / 0: on which side of it a zero lies depends on rounding.
    if stress.infinite:
        changed &= ~((was > 1) & (now == 1))
    if stress.large and not stress.nan and not stress.infinite:
        changed &= was == 0
    edge = (np.abs(plain) > largest / 2) & (np.abs(other) > largest / 2)
    return changed & ~(edge & (was != 1) & (now != 1) & (np.sign(plain) == np.sign(other)))
