"""Content for the inputs of a model: ordinary, in range for what the input is for, and nasty."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import ml_dtypes
import numpy as np
import onnx_ir as ir

from .core.backend import Array
from .roles import Role
from .tolerance import is_float

__all__ = ["SPECIALS", "VARIANTS", "Variant", "fill", "spoil"]

SPECIALS = ("nan", "zeros", "infinite", "small", "large", "overflowing")
"""Ways to spoil the floats of a sample, the most telling first."""
_WORDS = ("graph", "", "wright", "a", "42", "x y", "ünïcode")


@dataclass(frozen=True)
class Variant:
    """How to fill all inputs of one sample. ``number`` counts through the numbers that an input is compared with."""

    number: int = 0
    floats: str = "normal"
    masks: str = "prefix"
    flags: str = "random"
    ints: str = "bits"


VARIANTS = (
    Variant(0),
    Variant(1, "uniform", "ones", "true", "digits"),
    Variant(2, "bytes", "random", "false", "signed"),
    Variant(3, "plain", "prefix", "random", "digits"),
    Variant(4, "normal", "ones", "random", "positive"),
)


def fill(
    value: ir.Value,
    dims: tuple[int, ...],
    role: Role,
    variant: Variant,
    rng: np.random.Generator,
    bound: int,
    like: Array = None,
    data: tuple[int, ...] = (),
) -> Array:
    """An array of shape ``dims`` for a graph input (a list for a sequence).

    ``bound`` is a size that every axis with an unknown name has at least; ``like`` is an array that the user gave for this input; ``data`` is
    the shape of the model's first input of floats, which inputs that hold sizes are likely about.
    """
    if role.size and not isinstance(like, np.ndarray) and isinstance(value.type, ir.TensorType) and value.dtype is not None:
        return _sizes(dims, role.size, variant, data).astype(value.dtype.numpy())
    if isinstance(value.type, ir.OptionalType | ir.SequenceType) and _is_sequence(value.type):
        return [_fill_tensor(value, dims, role, variant, rng, bound, None) for _ in range(2 + variant.number % 2)]
    return _fill_tensor(value, dims, role, variant, rng, bound, like)


def _is_sequence(kind: object) -> bool:
    return isinstance(kind, ir.SequenceType) or (isinstance(kind, ir.OptionalType) and isinstance(kind.elem_type, ir.SequenceType))


def _fill_tensor(value: ir.Value, dims: tuple[int, ...], role: Role, variant: Variant, rng: np.random.Generator, bound: int, like: Array) -> np.ndarray:
    kind = value.dtype or ir.DataType.FLOAT
    if kind is ir.DataType.STRING:
        return np.array(rng.choice(_WORDS, size=dims), dtype=object)
    dtype = kind.numpy()
    given = like if isinstance(like, np.ndarray) and like.size else None
    if dtype == np.bool_:
        return _flags(dims, variant, rng)
    if dtype.kind == "c":
        return (rng.standard_normal(dims) + 1j * rng.standard_normal(dims)).astype(dtype)
    if is_float(dtype):
        return _floats(dims, dtype, role, variant, rng, given)
    return _ints(dims, kind, role, variant, rng, bound, given).astype(dtype)


def _flags(dims: tuple[int, ...], variant: Variant, rng: np.random.Generator) -> np.ndarray:
    if variant.flags == "random":
        return rng.random(dims) < 0.5 if int(np.prod(dims)) != 1 else np.full(dims, variant.number % 2 == 0)
    return np.full(dims, variant.flags == "true")


def _floats(dims: tuple[int, ...], dtype: np.dtype, role: Role, variant: Variant, rng: np.random.Generator, given: np.ndarray | None) -> np.ndarray:
    if role.size:
        return np.ones(dims, dtype) if given is None else _resized(given, dims)
    if role.mask and variant.floats != "plain":
        return _mask(dims, variant, rng).astype(dtype)
    if variant.floats == "uniform":
        return rng.random(dims, dtype=np.float32).astype(dtype)
    if variant.floats == "bytes":
        return rng.integers(0, 256, dims).astype(dtype)
    numbers = rng.standard_normal(dims, dtype=np.float32)
    if given is not None:
        known = given.astype(np.float64)[np.isfinite(given.astype(np.float64))]
        if known.size > 1 and known.std() > 0:
            numbers = numbers * np.float32(known.std()) + np.float32(known.mean())
    return numbers.astype(dtype)


def _mask(dims: tuple[int, ...], variant: Variant, rng: np.random.Generator) -> np.ndarray:
    """Zeros and ones, at least one 1 in each row (last axis)."""
    if variant.masks == "ones" or not dims or dims[-1] == 0:
        return np.ones(dims)
    if variant.masks == "random":
        mask = (rng.random(dims) < 0.7).astype(np.float64)
    else:
        lengths = np.asarray(rng.integers(1, dims[-1] + 1, dims[:-1]))
        lengths.flat[-1:] = max(1, dims[-1] // 2)
        mask = (np.arange(dims[-1]) < lengths[..., None]).astype(np.float64)
    mask[..., 0] = 1
    return mask


def _ints(dims: tuple[int, ...], kind: ir.DataType, role: Role, variant: Variant, rng: np.random.Generator, bound: int, given: np.ndarray | None) -> np.ndarray:
    if role.size:
        return np.ones(dims) if given is None else _resized(given, dims)
    if role.length:
        return rng.integers(1, bound + 1, dims) if variant.number else np.full(dims, bound)
    if role.rows is not None or role.shared:
        return _indices(dims, role, variant, rng, bound)
    if role.mask:
        return _mask(dims, variant, rng)
    if role.choices:
        return _choices(dims, role.choices, variant, rng)
    if given is not None:
        return rng.choice(given.reshape(-1), size=dims)
    return _plain_ints(dims, kind, variant, rng)


def _sizes(dims: tuple[int, ...], kind: str, variant: Variant, data: tuple[int, ...]) -> np.ndarray:
    count = int(np.prod(dims))
    if kind == "shape" and len(data) == count:
        return np.array(data).reshape(dims)
    if kind == "parts" and data and count:
        whole = data[variant.number % len(data)]
        return np.array([whole - whole // count * (count - 1)] + [whole // count] * (count - 1)).reshape(dims)
    if kind == "reshape" and count:
        return np.array([-1] + [1] * (count - 1)).reshape(dims)
    plain = {"zero": 0, "small": 2 + variant.number % 2, "shape": 2 + variant.number % 2}.get(kind, 1)
    return np.array(range(count) if kind == "axes" else [plain] * count).reshape(dims)


def _resized(given: np.ndarray, dims: tuple[int, ...]) -> np.ndarray:
    return given if given.shape == dims else np.resize(given, dims)


def _indices(dims: tuple[int, ...], role: Role, variant: Variant, rng: np.random.Generator, bound: int) -> np.ndarray:
    rows = min(role.rows or bound, bound) if role.shared else role.rows or bound
    found = rng.integers(0, max(rows, 1), dims)
    if variant.number % 2 and found.size > 1:
        found.flat[0], found.flat[-1] = 0, rows - 1
    named = [number for number in role.choices if 0 <= number < rows]
    if variant.number and named and found.size > 2:
        found.flat[found.size // 2] = named[variant.number % len(named)]
    return found


def _choices(dims: tuple[int, ...], choices: Sequence[float], variant: Variant, rng: np.random.Generator) -> np.ndarray:
    """Numbers that the model looks for, one after the other and then one it does not look for; in arrays their neighbours, too."""
    if int(np.prod(dims)) == 1:
        options = [*choices, max(choices) + 1]
        return np.full(dims, options[variant.number % len(options)])
    around = sorted({number + step for number in choices for step in (0, 1)})
    return rng.choice(around, size=dims)


def _plain_ints(dims: tuple[int, ...], kind: ir.DataType, variant: Variant, rng: np.random.Generator) -> np.ndarray:
    low, high = _range_of(kind)
    if variant.ints == "bits" and high > 255:
        return rng.integers(0, 2, dims)
    if kind.bitwidth <= 8:
        return rng.integers(1 if variant.ints == "positive" else low, high + 1, dims)
    least = {"signed": max(low, -9), "positive": 1}.get(variant.ints, 0)
    return rng.integers(least, 10, dims)


def _range_of(kind: ir.DataType) -> tuple[int, int]:
    if kind.is_signed():
        return -(2 ** (kind.bitwidth - 1)), 2 ** (kind.bitwidth - 1) - 1
    return 0, 2**kind.bitwidth - 1


def spoil(array: np.ndarray, how: str, rng: np.random.Generator) -> np.ndarray:
    """A copy with the floats made special, or the integers extreme, as `SPECIALS` names it ("extreme" for integers)."""
    if array.size == 0:
        return array.copy()
    if not is_float(array.dtype):
        return _extreme(array, rng)
    wide = array.astype(np.float64)
    info = ml_dtypes.finfo(array.dtype)
    tiny, top = float(info.smallest_subnormal), float(info.max)
    places = rng.choice(array.size, size=min(array.size, 2), replace=False)
    if how == "nan":
        wide.flat[places[0]] = np.nan
    elif how == "infinite":
        wide.flat[places[0]], wide.flat[places[-1]] = -np.inf, np.inf
    elif how == "zeros":
        wide = np.where(rng.random(wide.shape) < 0.5, 0.0, -0.0)
    elif how == "small":
        wide = wide * min(1e-6, top**-0.5 * 100)
        chosen = rng.choice(array.size, size=-(-array.size // 8), replace=False)
        wide.flat[chosen] = 5 * tiny * np.where(wide.flat[chosen] < 0, -1, 1)
    elif how == "large":
        wide = wide * min(1e4, top**0.5 / 8)
    else:
        wide = np.where(rng.random(wide.shape) < 0.2, np.sign(wide) * top / 8, wide * top**-0.5)
    with np.errstate(over="ignore"):
        return wide.astype(array.dtype)


def _extreme(array: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    if array.dtype.kind not in "iu":
        return array.copy()
    info = np.iinfo(array.dtype)
    return rng.choice(np.array([info.min, info.max, 0, 1, info.max // 2 + 1], dtype=array.dtype), size=array.shape)
