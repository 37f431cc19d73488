"""Embeddings: rows of a quantised table, dequantised after they are picked. The blocks of a row share a scale."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ....compiler.core.build import Build
from ....compiler.core.graph import STORED
from ....compiler.core.reasons import Skip, skip
from ....compiler.core.target import Target
from ..coded import Affine
from ..surgery import Place, Way
from .nbits import MICROSOFT
from .packing import kernel_bits, pack, unsigned

__all__ = ["gathered_way", "picked_way", "turned_way"]

SMALLEST_BLOCK = 16
BLOCKED = 21
NIBBLE, BYTE = 4, 8


def gathered_way(place: Place, coded: Affine, target: Target) -> Way | Skip:
    """com.microsoft::GatherBlockQuantized. ``coded`` is [width, rows]: each column is a row of the table."""
    if not target.has(MICROSOFT, "GatherBlockQuantized"):
        return skip("the target has no kernel GatherBlockQuantized")
    refusal = _refusal(place)
    if refusal is not None:
        return refusal
    if place.site.weight.dtype not in (ir.DataType.FLOAT, ir.DataType.FLOAT16):
        return skip("GatherBlockQuantized makes no %s", place.site.weight.dtype)
    bits, (width, rows) = kernel_bits(coded.bits), coded.codes.shape
    found = unsigned(coded, bits)
    if isinstance(found, Skip):
        return found
    block = kernel_block(coded.block, width)
    if block is None or width * bits % BYTE:
        return skip("GatherBlockQuantized takes no blocks of %d in rows of %d", coded.block, width)
    dtype = place.site.weight.dtype.numpy()

    def compose(op: Build, data: ir.Value) -> ir.Value:
        codes = op.const(pack(np.ascontiguousarray(found.codes.T), bits), "codes")
        scales = op.const(np.ascontiguousarray(np.broadcast_to(found.scales, (len(found.scales), rows)).T).astype(dtype), "scales")
        zeros = None if found.middle else op.const(pack(np.ascontiguousarray(found.zeros.T), bits), "zeros")
        return op.GatherBlockQuantized(codes, data, scales, zeros, bits=bits, block_size=block, gather_axis=0, quantize_axis=1, _domain=MICROSOFT)  # type: ignore[return-value]

    return Way(f"int{coded.bits}", compose)


def kernel_block(block: int, width: int) -> int | None:
    """The block to tell the kernel; one for a whole row is the next power of two."""
    if block >= width:
        return max(SMALLEST_BLOCK, 1 << (width - 1).bit_length())
    return block if block >= SMALLEST_BLOCK and block & (block - 1) == 0 else None


def picked_way(place: Place, coded: Affine) -> Way | Skip:
    """Standard operators: the codes of the rows and their scales are picked, then dequantised.

    Gather takes no codes of 4 bits: two of them stand in a byte, the first half of a row in the lower bits.
    """
    refusal = _refusal(place)
    if refusal is not None:
        return refusal
    if place.site.weight.dtype not in (ir.DataType.FLOAT, ir.DataType.FLOAT16):
        return skip("DequantizeLinear makes no %s", place.site.weight.dtype)
    width, rows = coded.codes.shape
    narrow = coded.bits <= NIBBLE and width % 2 == 0
    found = unsigned(coded, NIBBLE if narrow else BYTE)
    if isinstance(found, Skip):
        return found
    dtype = place.site.weight.dtype.numpy()
    table, groups = np.ascontiguousarray(found.codes.T), len(found.scales)

    def compose(op: Build, data: ir.Value) -> ir.Value:
        codes = _nibbles(op, table, data) if narrow else op.Gather(op.const(table, "codes"), data, axis=0)
        scales = np.ascontiguousarray(np.broadcast_to(found.scales, (groups, rows)).T).astype(dtype)
        scale = op.Gather(op.const(scales, "scales"), data, axis=0)
        zero = np.ascontiguousarray(np.broadcast_to(found.zeros, (groups, rows)).T)
        zeros = op.Gather(op.const(zero, "zeros"), data, axis=0)
        return op.DequantizeLinear(codes, scale, zeros, axis=-1, block_size=min(coded.block, width))  # type: ignore[return-value]

    return Way(f"int{coded.bits}", compose, BLOCKED)


def turned_way(place: Place, codes: ir.Value, scales: np.ndarray) -> Way | Skip:
    """Rows of a table that is stored turned, int8 [width, rows], as the weight of a product; ``scales`` float32 [rows].

    Turning it takes no time where the runtime does that once.
    """
    if place.rank is None or place.site.weight.dtype is not ir.DataType.FLOAT:
        return skip("only an embedding of float32 numbers reads the codes of a product")

    def compose(op: Build, data: ir.Value) -> ir.Value:
        turn = op.node("Transpose", (codes,), {"perm": [1, 0]})
        turn.metadata_props[STORED] = "shares a weight"
        numbers = op.Cast(op.Gather(turn.outputs[0], data, axis=0), to=ir.DataType.FLOAT.value)
        return op.Mul(numbers, op.Gather(op.const(np.ascontiguousarray(scales.reshape(-1, 1)), "scales"), data, axis=0))  # type: ignore[return-value]

    return Way("int8", compose, shared=BYTE)


def _nibbles(op: Build, table: np.ndarray, indices: ir.Value) -> ir.Value:
    half = table.shape[1] // 2
    packed = op.Gather(op.const(table[:, :half] | (table[:, half:] << np.uint8(NIBBLE)), "codes"), indices, axis=0)
    low = op.BitwiseAnd(packed, op.const(np.array(2**NIBBLE - 1, np.uint8), "mask"))
    high = op.BitShift(packed, op.const(np.array(NIBBLE, np.uint8), "shift"), direction="RIGHT")
    return op.Concat(low, high, axis=-1)  # type: ignore[return-value]


def _refusal(place: Place) -> Skip | None:
    if place.rank is None:
        return skip("how many dimensions its indices have is not known")
    return skip("it picks a single row") if place.rank == 0 else None
