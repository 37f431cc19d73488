"""Resizes that resize nothing."""

from __future__ import annotations

from ...compiler.core.build import Build
from ...compiler.core.dims import same_shape
from ...compiler.core.drift import EXACT
from ...compiler.core.graph import array, attribute
from ...compiler.core.reasons import skip
from ...compiler.core.rule import Match, Result, rule
from ...compiler.core.shapes import dims_of, known_ints


@rule(
    "Resize",
    drift=EXACT,
    opset=13,
    examples=[
        'g (float[N,2,3,3] x) => (float[N,2,3,3] y) <float[4] s = {1,1,1,1}> { a = Resize<mode="linear">(x, , s) y = Relu(a) }',
        'g (float[1,2,3,3] x) => (float[1,2,3,3] y) <int64[4] s = {1,2,3,3}> { a = Resize<mode="nearest">(x, , , s) y = Relu(a) }',
    ],
    leaves=[
        'g (float[N,2,3,3] x) => (float[N,2,3,3] y) <float[4] s = {1,1,1.2,1}> { a = Resize<mode="nearest">(x, , s) y = Relu(a) }',
        'g (float[N,2,3,3] x) => (float[M,2,3,3] y) <int64[4] s = {1,2,3,3}> { a = Resize<mode="nearest">(x, , , s) y = Relu(a) }',
        "g (float[1,2,3,3] x) => (float[1,2,3,3] y) <float[8] r = {0,0,0,0,1,1,0.5,0.5}, float[4] s = {1,1,1,1}>"
        ' { a = Resize<mode="linear", coordinate_transformation_mode="tf_crop_and_resize">(x, r, s) y = Relu(a) }',
    ],
)
def drop_resize(op: Build, m: Match) -> Result:
    """Resize(x) by 1, or to the sizes it has -> x"""
    if attribute(m.root, "coordinate_transformation_mode") == "tf_crop_and_resize" or "axes" in m.root.attributes:
        return skip("it may crop, or resizes some axes only")
    scales, sizes = (m.root.inputs[index] if index < len(m.root.inputs) else None for index in (2, 3))
    factors = array(scales, max_bytes=4096)
    by_one = factors is not None and factors.size > 0 and bool((factors == 1).all())
    if not by_one and (sizes is None or not same_shape(known_ints(sizes), dims_of(m.root.inputs[0]))):
        return skip("it resizes by %s to %s", factors, known_ints(sizes))
    return m.root.inputs[0]
