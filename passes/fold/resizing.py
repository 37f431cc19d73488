"""What Resize does to images: sums of pixels, or something else."""

from __future__ import annotations

import onnx_ir as ir

from ...compiler.core.dims import same
from ...compiler.core.graph import array, attribute, is_op
from ...compiler.core.shapes import dims_of


def resizes_images(node: ir.Node | None) -> bool:
    """Whether the node resizes the image of every channel by itself, by sums of its pixels alone."""
    if node is None or not is_op(node, "Resize") or attribute(node, "coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize":
        return False
    before, after = dims_of(node.inputs[0]), dims_of(node.outputs[0])
    if before is None or after is None or len(before) < 3 or not all(map(same, before[:2], after[:2])):
        return False
    return attribute(node, "keep_aspect_ratio_policy", "stretch") == "stretch" and _leaves_the_first_two(node, len(before))


def _leaves_the_first_two(node: ir.Node, rank: int) -> bool:
    """Whether batch and channels are not resized, not even by a factor that happens to change nothing here."""
    axes = attribute(node, "axes")
    given = [int(axis) % rank for axis in axes] if axes is not None else list(range(rank))  # type: ignore[attr-defined]
    if all(axis > 1 for axis in given) or len(node.inputs) < 3 or node.inputs[2] is None:
        return True
    scales = array(node.inputs[2])
    return scales is not None and len(scales) == len(given) and all(scale == 1 or axis > 1 for axis, scale in zip(given, scales.tolist(), strict=True))


def keeps_constants(node: ir.Node | None) -> bool:
    """Whether an image of one number stays that: the weights of the pixels are known to add up to one."""
    return node is not None and attribute(node, "mode", "nearest") in ("nearest", "linear")
