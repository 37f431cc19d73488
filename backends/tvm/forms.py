"""Forms of operators that TVM's importer reads as something else: refused by name, since their numbers would be wrong.

Found by ONNX's own node tests; what is here is expanded instead as soon as somebody needs it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import onnx_ir as ir

from ...compiler.core.graph import array, attribute
from ...compiler.core.shapes import static_shape


def misread(node: ir.Node) -> str | None:
    """Why TVM would compute a node otherwise than ONNX says; None when it would not."""
    found = MISREAD.get(node.op_type)
    return found(node) if found is not None else None


def _always(reason: str) -> Callable[[ir.Node], str | None]:
    return lambda node: reason


def _resize(node: ir.Node) -> str | None:
    """TVM knows sizes only, and takes their ratio for the scale."""
    if attribute(node, "antialias", 0):
        return "antialiasing is not there"
    if attribute(node, "exclude_outside", 0):
        return "exclude_outside is not there"
    if attribute(node, "keep_aspect_ratio_policy", "stretch") != "stretch":
        return "keep_aspect_ratio_policy is not there"
    scales = array(node.inputs[2]) if len(node.inputs) > 2 else None
    before, after = static_shape(node.inputs[0]), static_shape(node.outputs[0])
    if scales is None or not scales.size:
        return None
    if before is None or after is None or len(scales) != len(before):
        return "scales of what has no known size"
    exact = all(abs(size * scale - result) < 1e-5 * result for size, scale, result in zip(before, scales.tolist(), after, strict=True))
    return None if exact else "a scale that does not lead to a whole size"


def _space_to_depth(node: ir.Node) -> str | None:
    return "the mode CRD is not there" if attribute(node, "mode", "DCR") == "CRD" else None


def _roi_align(node: ir.Node) -> str | None:
    return "the mode max is computed otherwise" if attribute(node, "mode", "avg") != "avg" else None


MISREAD: Mapping[str, Callable[[ir.Node], str | None]] = {
    "NonMaxSuppression": _always("what it leaves depends on numbers, and is cut short"),
    "Resize": _resize,
    "RoiAlign": _roi_align,
    "SpaceToDepth": _space_to_depth,
    "SplitToSequence": _always("sequences are not there"),
}
