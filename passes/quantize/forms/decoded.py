"""Weights that no kernel takes as they are stored: standard operators make them dense, which runtimes do once, when they load the model.

The file is smaller, and what runs is as fast as before.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import ml_dtypes
import numpy as np
import onnx_ir as ir

from ....compiler.core.build import Build
from ....compiler.core.graph import STORED
from ....compiler.core.reasons import Skip, skip
from ..coded import Affine, Binaries, Codebook, Coded, LowRank, Rows, Sparse, Sum, Turned
from ..equivalent import Rescaled
from ..surgery import Place, Way
from .pairs import as_steps, code_type, storage
from .turned import turn_numbers, turned

__all__ = ["decoded_way"]

BYTE = 8
NARROW_INTEGERS = 21
"""The first opset in which a Cast reads codes of 4 bits."""
FLOAT = ir.DataType.FLOAT.value
HALF_LARGEST = float(np.finfo(np.float16).max)


def decoded_way(place: Place, coded: Sequence[Coded], form: str) -> Way | Skip:
    """The operator of the place on a weight that is made from ``coded``, one part for each group of the site."""
    for part in coded:
        refusal = _refusal(part)
        if refusal is not None:
            return refusal
    site = place.site

    def compose(op: Build, data: ir.Value) -> ir.Value:
        made_before = len(op.nodes)
        parts = [as_steps(part) or part for part in coded]
        steps = [part for part in parts if isinstance(part, Affine)]
        kernel = site.kind in ("Conv", "ConvTranspose") and len(steps) == len(parts)
        weight = _kernel(op, place, steps) if kernel else _stored_layout(op, place, [_decode(op, part) for part in _of_one_book(place, parts)])
        for node in op.nodes[made_before:]:
            node.metadata_props[STORED] = "decodes a weight"
        made = op.like(site.node, *place.operands(data, weight))
        if place.added is None or place.bias is None:
            return made  # type: ignore[return-value]
        return op.Add(made, op.const(place.bias.astype(_type(site.weight).numpy()), "bias"))  # type: ignore[return-value]

    return Way(form, compose, NARROW_INTEGERS, dense=True)


def _refusal(coded: Coded) -> Skip | None:
    if isinstance(coded, Sum):
        return next((reason for part in coded.parts if (reason := _refusal(part)) is not None), None)
    if isinstance(coded, Rescaled):
        return _refusal(coded.inner)
    if isinstance(coded, Turned):
        if turn_numbers(coded) >= len(coded.before) * len(coded.after):
            return skip("the matrices that turn it back take more room than the weight")
        return _refusal(coded.content)
    if isinstance(coded, Binaries):
        return None if _sign_bits(coded) <= BYTE else skip("%d signs for each weight are more than a byte holds", len(coded.signs))
    if not isinstance(coded, (Affine, Codebook, LowRank, Rows, Sparse)):
        return skip("its method stores it in a way (%s) that no operators read", type(coded).__name__)
    if isinstance(coded, (Affine, Codebook)) and storage(coded.bits, False) is None:
        return skip("ONNX stores no codes of %d bits", coded.bits)
    return None


def _decode(op: Build, coded: Coded) -> ir.Value:
    """float32 [K, M]"""
    if isinstance(coded, Affine):
        return _steps(op, coded)
    if isinstance(coded, Codebook):
        return _looked_up(op, coded)
    if isinstance(coded, LowRank):
        return op.MatMul(_halved(op, coded.left, "left"), _halved(op, coded.right, "right"))  # type: ignore[return-value]
    if isinstance(coded, Rescaled):
        return op.Mul(_decode(op, coded.inner), op.const((1.0 / coded.scale).astype(np.float32)[:, None], "unscale"))  # type: ignore[return-value]
    if isinstance(coded, Turned):
        return turned(op, coded, _decode(op, coded.content))
    if isinstance(coded, Binaries):
        return _signed(op, coded)
    if isinstance(coded, (Rows, Sparse)):
        return _added(op, op.ConstantOfShape(op.const(list(coded.shape), "shape")), coded)  # type: ignore[arg-type]
    assert isinstance(coded, Sum)
    dense = [part for part in coded.parts if not isinstance(part, (Rows, Sparse))] or [coded.parts[0]]
    found = _decode(op, dense[0])
    for part in dense[1:]:
        found = op.Add(found, _decode(op, part))  # type: ignore[assignment]
    for part in coded.parts:
        if isinstance(part, (Rows, Sparse)) and part is not dense[0]:
            found = _added(op, found, part)
    return found


def _kernel(op: Build, place: Place, parts: Sequence[Affine]) -> ir.Value:
    """A kernel made of steps, all groups at once: a depthwise convolution has as many as it has channels."""
    beside = place.site.kind == "Conv"  # The groups of a Conv have channels of their own, those of a ConvTranspose inputs.
    if not beside and len(parts) > 1:
        return _stored_layout(op, place, [_decode(op, part) for part in parts])
    found = _steps(op, _joined(parts) if beside else parts[0])
    shape = op.const(list(place.site.shape), "shape")
    found = op.Reshape(op.Transpose(found, perm=[1, 0]) if beside else found, shape)  # type: ignore[assignment]
    if place.site.weight.dtype is ir.DataType.FLOAT:
        return found
    return op.Cast(found, to=_type(place.site.weight).value)  # type: ignore[return-value]


def _of_one_book(place: Place, parts: Sequence[Coded]) -> Sequence[Coded]:
    """The groups of a Conv that share a book as one weight, so that it is stored once; others as they are."""
    books = [part for part in parts if isinstance(part, Codebook) and part.scales is not None and part.book.ndim == 1]
    first = books[0] if books else None
    if first is None or place.site.kind != "Conv" or len(books) < len(parts) or any(not np.array_equal(first.book, part.book) for part in books):
        return parts
    width = first.codes.shape[1]
    scales = [np.broadcast_to(part.scales, (len(part.scales), width)) for part in books if part.scales is not None]
    return [replace(first, codes=np.concatenate([part.codes for part in books], axis=1), scales=np.concatenate(scales, axis=1))]


def _joined(parts: Sequence[Affine]) -> Affine:
    """The weights of groups side by side."""
    spread = [_each_column(part) for part in parts]
    zeros = [part.zeros for part in spread if part.zeros is not None]
    codes, scales = (np.concatenate(items, axis=1) for items in ([part.codes for part in spread], [part.scales for part in spread]))
    return Affine(codes, scales, np.concatenate(zeros, axis=1) if zeros else None, parts[0].block, parts[0].bits)


def _each_column(part: Affine) -> Affine:
    """With a scale for each column, where there was one for all."""
    shape = (len(part.scales), part.codes.shape[1])
    return replace(part, scales=np.broadcast_to(part.scales, shape), zeros=None if part.zeros is None else np.broadcast_to(part.zeros, shape))


def _steps(op: Build, coded: Affine) -> ir.Value:
    dtype = code_type(coded)
    assert dtype is not None
    found = op.Cast(op.const(coded.codes.astype(dtype), "codes"), to=FLOAT)
    if coded.zeros is not None:
        zeros = op.Cast(op.const(coded.zeros.astype(dtype), "zeros"), to=FLOAT)
        found = op.Sub(found, _spread(op, zeros, len(coded.zeros), coded.block, len(coded.codes)))  # type: ignore[arg-type]
    return op.Mul(found, _spread(op, op.const(coded.scales, "scales"), len(coded.scales), coded.block, len(coded.codes)))  # type: ignore[return-value]


def _looked_up(op: Build, coded: Codebook) -> ir.Value:
    dtype = storage(coded.bits, False)
    assert dtype is not None
    codes = op.Cast(op.const(coded.codes.astype(dtype), "codes"), to=ir.DataType.INT32.value)
    book = op.const(coded.book.astype(np.float32), "book")
    found = op.Gather(book, codes, axis=0) if coded.book.ndim == 1 else op.GatherElements(book, codes, axis=0)
    if coded.scales is None:
        return found  # type: ignore[return-value]
    scales = _scales(op, coded.scales.astype(np.float32), coded.scale_bits)
    return op.Mul(found, _spread(op, scales, len(coded.scales), coded.block, len(coded.codes)))  # type: ignore[return-value]


def _sign_bits(coded: Binaries) -> int:
    """How many bits the signs of one weight take together."""
    return max(1, math.ceil(len(coded.signs) * math.log2(2 if coded.signs.all() else 3)))


def _signed(op: Build, coded: Binaries) -> ir.Value:
    """The signs of a weight stand in one code, that of the first matrix in its lowest digit; a digit has a third value where a mask drops weights."""
    digits = (-1, 1) if coded.signs.all() else (-1, 0, 1)
    base, count, rows = len(digits), len(coded.signs), coded.signs.shape[1]
    places = (coded.signs == 1).astype(np.int64) if base == 2 else coded.signs.astype(np.int64) + 1
    content = sum(part * base**place for place, part in enumerate(places))
    dtype = storage(_sign_bits(coded), False)
    assert dtype is not None
    codes = op.Cast(op.const(np.asarray(content).astype(dtype), "codes"), to=ir.DataType.INT32.value)
    found: ir.Value | None = None
    for place, scales in enumerate(coded.scales):
        table = np.array([digits[code // base**place % base] for code in range(base**count)], np.float32)
        part = op.Mul(op.Gather(op.const(table, "signs"), codes), _spread(op, _exact_half(op, scales, "scales"), len(scales), coded.block, rows))
        found = part if found is None else op.Add(found, part)  # type: ignore[assignment]
    if coded.left is not None:
        found = op.Mul(found, _exact_half(op, coded.left[:, None], "left"))  # type: ignore[assignment]
    if coded.offset is not None:
        found = op.Add(found, _spread(op, _exact_half(op, coded.offset, "offset"), len(coded.offset), coded.block, rows))  # type: ignore[assignment]
    assert found is not None
    return found


def _exact_half(op: Build, content: np.ndarray, hint: str) -> ir.Value:
    """In 16 bits where these hold it to the last digit."""
    with np.errstate(over="ignore"):
        same = np.array_equal(content.astype(np.float16).astype(np.float32), content)
    return _halved(op, content, hint) if same else op.const(content.astype(np.float32), hint)


def _scales(op: Build, scales: np.ndarray, bits: float) -> ir.Value:
    """Scales that were quantised as well stay in 16 bits where those hold them: the file has no room for their own steps, and needs none."""
    exact = bits < 32 and bool((scales.astype(ml_dtypes.bfloat16).astype(np.float32) == scales).all())
    if not exact:
        return op.const(scales, "scales")
    return op.Cast(op.const(scales.astype(ml_dtypes.bfloat16), "scales"), to=FLOAT)  # type: ignore[return-value]


def _added(op: Build, matrix: ir.Value, coded: Rows | Sparse) -> ir.Value:
    """The part that holds few numbers added to a matrix."""
    if isinstance(coded, Rows):
        return op.ScatterND(matrix, op.const(coded.rows.astype(np.int64)[:, None], "rows"), _halved(op, coded.values, "kept"), reduction="add")  # type: ignore[return-value]
    flat = op.Reshape(matrix, op.const([-1], "flat"))
    places = coded.places.astype(np.int32) if math.prod(coded.shape) < 2**31 else coded.places
    summed = op.ScatterElements(flat, op.const(places, "places"), _halved(op, coded.values, "outliers"), axis=0, reduction="add")
    return op.Reshape(summed, op.const(list(coded.shape), "shape"))  # type: ignore[return-value]


def _halved(op: Build, content: np.ndarray, hint: str) -> ir.Value:
    """A constant in 16 bits, where those reach as far."""
    if np.abs(content).max(initial=0.0) > HALF_LARGEST:
        return op.const(content.astype(np.float32), hint)
    return op.Cast(op.const(content.astype(np.float16), hint), to=FLOAT)  # type: ignore[return-value]


def _spread(op: Build, groups: ir.Value, count: int, block: int, rows: int) -> ir.Value:
    """[G, M] as [K, M], each row repeated for its block; one row is left to broadcast."""
    if count == 1:
        return groups
    return op.Gather(groups, op.const((np.arange(rows) // block).astype(np.int32), "blocks"), axis=0)  # type: ignore[return-value]


def _stored_layout(op: Build, place: Place, parts: Sequence[ir.Value]) -> ir.Value:
    """Matrices [K, M / groups] as the operator of the place reads them; see `sites.fold_matrices`."""
    site = place.site
    if site.kind in ("MatMul", "Gemm"):
        found = op.Transpose(parts[0], perm=[1, 0]) if site.flipped else parts[0]
    elif site.kind == "Gather":
        found = op.Transpose(parts[0], perm=[1, 0])
    else:
        turned = [op.Transpose(part, perm=[1, 0]) if site.kind == "Conv" else part for part in parts]
        joined = turned[0] if len(turned) == 1 else op.Concat(*turned, axis=0)
        found = op.Reshape(joined, op.const(list(site.shape), "shape"))
    if site.weight.dtype is ir.DataType.FLOAT:
        return found  # type: ignore[return-value]
    return op.Cast(found, to=site.weight.dtype.value)  # type: ignore[return-value, union-attr]


def _type(value: ir.Value) -> ir.DataType:
    assert value.dtype is not None
    return value.dtype
