"""What Resize does to images: sums of pixels, or something else; and sizes it need not be told at run time."""

from __future__ import annotations

import onnx_ir as ir

from ...compiler.core.build import Build
from ...compiler.core.dims import same
from ...compiler.core.drift import EXACT
from ...compiler.core.graph import array, attribute, constant, is_op
from ...compiler.core.reasons import skip
from ...compiler.core.rule import Match, Result, rule
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


@rule(
    "Resize",
    drift=EXACT,
    opset=18,
    examples=[
        "g (float[N,2,2,3] x) => (float[N,2,4,6] y) <int64[2] t = {4,6}>"
        " { n = Shape<end=2>(x) s = Concat<axis=0>(n, t) y = Resize<mode=\"linear\">(x, , , s) }",
    ],
    leaves=[
        "g (float[N,2,2,3] x) => (float[N,2,4,6] y) <int64[2] t = {4,6}> { y = Resize<axes=[2,3]>(x, , , t) }",
        "g (float[N,2,H,3] x, int64[2] t) => (float[N,2,A,B] y) { n = Shape<end=2>(x) s = Concat<axis=0>(n, t) y = Resize(x, , , s) }",
    ],
)
def settle_image_size(op: Build, m: Match) -> Result:
    """Resize(x, sizes=[batch, channels, 8, 8]) with a batch read at run time -> Resize(x, sizes=[8, 8], axes=[2, 3])"""
    source, sizes = m.root.inputs[0], m.root.inputs[3] if len(m.root.inputs) > 3 else None
    shape = dims_of(m.root.outputs[0])
    if source is None or sizes is None or shape is None or constant(sizes) is not None or not resizes_images(m.root):
        return None
    image = [size for size in shape[2:] if isinstance(size, int)]
    if len(image) < len(shape) - 2 or (m.root.inputs[1] is not None):
        return skip("the size of the image is not known")
    return op.like(m.root, source, None, None, op.const(image, "sizes"), axes=list(range(2, len(shape))))
