"""Two versions of a piece of a model side by side, as ONNX text."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Iterator, Sequence

import numpy as np
import onnx
import onnx_ir as ir

from .core.graph import array

__all__ = ["node_text", "side_by_side"]

WIDTH = 70
CONTEXT = 2
MAX_HASHED_BYTES = 64 << 20
"""Of larger weights not even a hash is shown that would tell their contents apart."""


def node_text(node: ir.Node) -> list[str]:
    """A node in ONNX text; a node with subgraphs takes several lines."""
    proto = ir.to_proto(node)
    proto.ClearField("name")
    proto.ClearField("doc_string")
    proto.ClearField("metadata_props")
    return [line.strip() for line in onnx.printer.to_text(proto).splitlines() if line.strip()]


def side_by_side(before: Sequence[ir.Node], after: Sequence[ir.Node]) -> str:
    """``before | after``, lines that differ marked with ``>``, the weights they read below them."""
    left, right = _lines(before), _lines(after)
    rows = [("  before", "  after"), *_rows(left, right)]
    width = min(WIDTH, max(len(row[0]) for row in rows))
    return "\n".join(f"{_fitted(one, width)} | {_fitted(two, WIDTH)}".rstrip() for one, two in rows) + "\n"


def _rows(left: Sequence[str], right: Sequence[str]) -> Iterator[tuple[str, str]]:
    for kind, start, end, other, last in difflib.SequenceMatcher(a=left, b=right, autojunk=False).get_opcodes():
        mark = "  " if kind == "equal" else "> "
        ones, twos = [mark + line for line in left[start:end]], [mark + line for line in right[other:last]]
        if kind == "equal" and len(ones) > 2 * CONTEXT + 1:
            skipped = f"  ... {len(ones) - 2 * CONTEXT} lines alike ..."
            ones = twos = [*ones[:CONTEXT], skipped, *ones[-CONTEXT:]]
        for place in range(max(len(ones), len(twos))):
            yield (ones[place] if place < len(ones) else ""), (twos[place] if place < len(twos) else "")


def _fitted(line: str, width: int) -> str:
    return line.ljust(width) if len(line) <= width else line[: width - 3] + "..."


def _lines(nodes: Sequence[ir.Node]) -> list[str]:
    lines: list[str] = []
    seen: set[ir.Value] = set()
    for node in nodes:
        lines.extend(node_text(node))
        for value in node.inputs:
            if value is not None and value.is_initializer() and value not in seen:
                seen.add(value)
                lines.append(f"  {_constant_text(value)}")
    return lines


def _constant_text(value: ir.Value) -> str:
    tensor = value.const_value
    if tensor is None:
        return f"{value.name}: no content"
    shape = ",".join(str(dim) for dim in tensor.shape)
    content = array(value, max_bytes=64)
    head = f"{value.name}: {tensor.dtype.name.lower()}[{shape}]"
    if content is not None:
        return f"{head} = {np.array2string(content.reshape(-1), precision=6, separator=', ', max_line_width=10_000)}"
    if tensor.dtype is ir.DataType.STRING or tensor.nbytes > MAX_HASHED_BYTES:
        return head
    return f"{head} #{hashlib.blake2b(tensor.tobytes(), digest_size=3).hexdigest()}"
