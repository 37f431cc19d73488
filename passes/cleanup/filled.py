"""Tensors filled with one number, in the type that is wanted at once."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ...compiler.core.build import Build
from ...compiler.core.drift import EXACT
from ...compiler.core.graph import attribute
from ...compiler.core.pattern import ANY, Pen
from ...compiler.core.reasons import skip
from ...compiler.core.rule import Match, Result, rule


def cast_filled(op: Pen, shape: object) -> object:
    return op.Cast(op.ConstantOfShape(shape, value=ANY, _name="filled"), to=ANY, saturate=ANY)


@rule(
    cast_filled,
    drift=EXACT,
    opset=9,
    examples=[
        "g (float[N,4] x) => (int64[N,4] y) { s = Shape(x) f = ConstantOfShape<value: tensor = float[1] {2}>(s) c = Cast<to=7>(f) y = Neg(c) }",
        "g (float[N,4] x) => (float16[N,4] y) { s = Shape(x) f = ConstantOfShape(s) c = Cast<to=10>(f) y = Neg(c) }",
        "g (float[N,4] x) => (bool[N,4] y) { s = Shape(x) f = ConstantOfShape<value: tensor = int64[1] {1}>(s) c = Cast<to=9>(f) y = Not(c) }",
    ],
    leaves=[
        "g (float[N,4] x) => (int64[N,4] y) { s = Shape(x) f = ConstantOfShape<value: tensor = float[1] {2.5}>(s) c = Cast<to=7>(f) y = Neg(c) }",
        "g (float[N,4] x) => (float[N,4] f, int64[N,4] y) { s = Shape(x) f = ConstantOfShape<value: tensor = float[1] {2}>(s) y = Cast<to=7>(f) }",
    ],
)
def fill_with_cast(op: Build, m: Match) -> Result:
    """Cast(ConstantOfShape(s, c)) -> ConstantOfShape(s, Cast(c)), for a c that the other type holds exactly"""
    value = m.node("filled").attributes.get("value")
    content = value.as_tensor().numpy() if value is not None else np.zeros(1, np.float32)
    wanted = ir.DataType(int(attribute(m.root, "to")))  # type: ignore[call-overload]
    if content.dtype.kind not in "biuf" or wanted == ir.DataType.STRING:
        return skip("%s cannot be cast to %s here", content.dtype, wanted)
    cast = content.astype(wanted.numpy())
    if cast.astype(content.dtype).tobytes() != content.tobytes():
        return skip("%s is not held exactly by %s", content[0], wanted)
    return op.ConstantOfShape(m.shape, value=ir.tensor(cast, dtype=wanted))
