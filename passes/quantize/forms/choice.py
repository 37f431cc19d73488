"""Which ways there are of writing a coded weight into a graph, the one that is usually fastest first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import onnx_ir as ir

from ....compiler.core.build import Build
from ....compiler.core.graph import STORED
from ....compiler.core.reasons import Skip, skip
from ....compiler.core.target import PORTABLE, Target
from ..coded import Affine, Codebook, Coded, LowRank, Rows, Sum
from ..equivalent import Rescaled
from ..surgery import Made, Place, Way
from .bnb4 import bnb4_way
from .decoded import decoded_way
from .lookup import gathered_way, picked_way
from .nbits import nbits_way
from .pairs import float_way, pair_way

__all__ = ["ways_of"]

HALF_LARGEST = float(np.finfo(np.float16).max)


def ways_of(place: Place, coded: Sequence[Coded], form: str, target: Target, accuracy_level: int) -> tuple[list[Way], Skip]:
    """The ways of computing a place with its coded weight (one part for each group of a convolution), and why there is not a better one.

    The codes of an embedding are those of its transposed table [width, rows].
    """
    tried = _tried(place, coded, form, target, accuracy_level)
    ways = [way for way in tried if isinstance(way, Way)]
    reasons = [way for way in tried if isinstance(way, Skip)]
    return ways, reasons[-1] if reasons else skip("there is a kernel for it")


def _tried(place: Place, coded: Sequence[Coded], form: str, target: Target, accuracy_level: int) -> list[Way | Skip]:
    """ONNX Runtime dequantises the weight of a convolution at every run, and has its fastest kernels for constant weights only: there it is decoded."""
    first, kind = coded[0], place.site.kind
    decoded = decoded_way(place, coded, f"int{first.bits}" if isinstance(first, Affine) else form)
    if kind == "Gather":
        return [gathered_way(place, first, target), picked_way(place, first), decoded] if isinstance(first, Affine) else [decoded]
    if kind in ("Conv", "ConvTranspose"):
        affine = [part for part in coded if isinstance(part, Affine)]
        pair = pair_way(place, affine) if len(affine) == len(coded) else skip("its codes are no uniform steps")
        pairs = [replace(way, dense=True) if isinstance(way, Way) else way for way in (pair, float_way(place, coded))]
        return [*pairs, decoded] if target.name == PORTABLE.name else [decoded, *pairs]
    return [*_products(place, first, target, accuracy_level), decoded]


def _products(place: Place, coded: Coded, target: Target, accuracy_level: int) -> list[Way | Skip]:
    """A product with the weight as it is stored."""
    if isinstance(coded, Affine):
        kernel = nbits_way(place, coded, target, accuracy_level)
        return [kernel] if isinstance(kernel, Way) else [kernel, pair_way(place, (coded,))]
    if isinstance(coded, Codebook):
        return [float_way(place, (coded,)), bnb4_way(place, coded, target)]
    if isinstance(coded, (LowRank, Rows)):
        return [_narrow_products(place, coded)]
    if isinstance(coded, Rescaled):
        return [_on_scaled_data(way, coded, place) for way in _products(place, coded.inner, target, accuracy_level)]
    if isinstance(coded, Sum):
        return [_summed(place, coded, target, accuracy_level)]
    return [skip("no kernel multiplies by a weight stored as %s", type(coded).__name__)]


def _on_scaled_data(way: Way | Skip, coded: Rescaled, place: Place) -> Way | Skip:
    if isinstance(way, Skip) or place.site.weight_at != 1:
        return way if isinstance(way, Skip) else skip("the data is on the right of the weight")
    unscale = (1.0 / coded.scale).astype(_numpy(place))
    return replace(way, compose=lambda op, data: way.compose(op, op.Mul(data, op.const(unscale, "unscale"))))  # type: ignore[arg-type]


def _narrow_products(place: Place, coded: LowRank | Rows) -> Way | Skip:
    """(x L) R, or x[rows] V"""
    if place.site.kind != "MatMul" or place.site.weight_at != 1 or place.site.weight.dtype is not ir.DataType.FLOAT:
        return skip("only a product of float32 data with a weight on the right is split into two")

    def compose(op: Build, data: ir.Value) -> ir.Value:
        if isinstance(coded, Rows):
            found = op.MatMul(op.Gather(data, op.const(coded.rows.astype(np.int64), "rows"), axis=-1), _half(op, coded.values, "kept"))
        else:
            found = op.MatMul(op.MatMul(data, _half(op, coded.left, "left")), _half(op, coded.right, "right"))
        return found if place.bias is None else op.Add(found, op.const(place.bias, "bias"))  # type: ignore[return-value]

    return Way("rows" if isinstance(coded, Rows) else "low rank", compose)


def _half(op: Build, content: np.ndarray, hint: str) -> ir.Value:
    """A constant in 16 bits, where those reach as far; it is made wide again when the model is loaded."""
    if np.abs(content).max(initial=0.0) > HALF_LARGEST:
        return op.const(content.astype(np.float32), hint)
    made = op.node("Cast", (op.const(content.astype(np.float16), hint),), {"to": ir.DataType.FLOAT.value})
    made.metadata_props[STORED] = "decodes a weight"
    return made.outputs[0]


def _summed(place: Place, coded: Sum, target: Target, accuracy_level: int) -> Way | Skip:
    """A product with each part, added up; the first has the bias."""
    if place.site.kind != "MatMul" or place.site.weight_at != 1:
        return skip("only a product with a weight on the right is split into several")
    bare = replace(place, added=None, bias=None)
    found: list[Way] = []
    for index, part in enumerate(coded.parts):
        ways = _products(bare if index else place, part, target, accuracy_level)
        way = next((way for way in ways if isinstance(way, Way)), None)
        if way is None:
            return next(way for way in ways if isinstance(way, Skip))
        found.append(way)

    def compose(op: Build, data: ir.Value) -> Made:
        total: Made = found[0].compose(op, data)
        for way in found[1:]:
            total = op.Add(total, way.compose(op, data))
        return total

    return Way(found[0].form, compose, max(way.lifts for way in found))


def _numpy(place: Place) -> np.dtype:
    assert place.site.weight.dtype is not None
    return place.site.weight.dtype.numpy()
