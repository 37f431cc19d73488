"""Embeddings of words, positions and segments, their sum and its LayerNormalization as one kernel."""

from __future__ import annotations

import onnx_ir as ir

from ...compiler.core.build import Build
from ...compiler.core.dims import same, same_shape
from ...compiler.core.drift import DOMAIN
from ...compiler.core.graph import attribute, is_op, producer
from ...compiler.core.reasons import Skip, skip
from ...compiler.core.rule import Match, Result, rule
from ..raising.layer_norm import norm_axis

KERNEL = "com.microsoft::EmbedLayerNormalization"
SLOW_ON = ("cpu",)
"""ONNX Runtime 1.32's CPU kernel takes 1.4 times as long as the three Gathers, two Adds and the norm ([1,128,384]: 70 against 50 us)."""
TABLES = (
    "float[5,2] w = {1,2,3,4,5,6,7,8,9,0}, float[6,2] p = {1,0,2,1,0,2,1,3,3,1,5,2},"
    " float[5,2] g = {1,1,2,2,3,1,4,2,2,2}, float[2] s = {1,2}, float[2] t = {0,1}"
)
GATHERED = "a = Gather(w, ids) b = Gather(p, pos)"


def _model(body: str, given: str, tables: str = TABLES) -> str:
    return f"g ({given}) => (float[N,3,2] y) <{tables}> {{ {body} }}"


@rule(
    "LayerNormalization",
    drift=DOMAIN,
    opset=17,
    kernels=(KERNEL,),
    doubtful=SLOW_ON,
    measured=True,
    examples=[
        _model(f"{GATHERED} d = Add(a, b) y = LayerNormalization(d, s, t)", "int64[N,3] ids, int64[1,3] pos"),
        _model(
            f"{GATHERED} c = Gather(g, seg) d = Add(a, c) e = Add(d, b) y = LayerNormalization<epsilon=0.001>(e, s, t)",
            "int64[N,3] ids, int64[1,3] pos, int64[N,3] seg",
        ),
        _model(
            f"{GATHERED} c = Gather(g, seg) d = Add(b, c) e = Add(d, a) y = LayerNormalization(e, s, t)",
            "int32[N,3] ids, int64[N,3] pos, int64[N,3] seg",
        ),
    ],
    leaves=[
        _model(f"{GATHERED} d = Add(a, b) y = LayerNormalization(d, s, t)", "int64[N,3] ids, int64[1,3] pos"),
        _model(f"{GATHERED} d = Add(a, b) y = LayerNormalization(d, s)", "int64[N,3] ids, int64[1,3] pos"),
        _model(f"{GATHERED} d = Sub(a, b) y = LayerNormalization(d, s, t)", "int64[N,3] ids, int64[1,3] pos"),
        _model(
            f"{GATHERED} d = Add(a, b) y = LayerNormalization<axis=1>(d, q, q)", "int64[N,3] ids, int64[1,3] pos", f"{TABLES}, float[3,2] q = {{1,2,3,4,5,6}}"
        ),
    ],
)
def fuse_embed_layer_norm(op: Build, m: Match) -> Result:
    """LayerNormalization(words[i] + positions[j] + segments[k], s, t) -> EmbedLayerNormalization, where no index is negative (the kernel takes none)"""
    found = _gathers(m)
    if found is None:
        return None
    refusal = _unfit(m, found)
    if refusal:
        return refusal
    order = _order(found)
    if order is None:
        return skip("the indices have shapes %s", [item.inputs[1].shape for item in found if item.inputs[1] is not None])
    word, position, segment = order
    ids, places, kinds = (_indices(op, item) for item in (word, position, segment))
    scale, shift = m.root.inputs[1:3]
    tables = (item.inputs[0] if item is not None else None for item in (word, position, segment))
    epsilon = float(attribute(m.root, "epsilon", 1e-5))  # type: ignore[arg-type]
    return op.EmbedLayerNormalization(ids, kinds, *tables, scale, shift, None, places, epsilon=epsilon, mask_index_type=0, _domain="com.microsoft")


def _gathers(m: Match) -> list[ir.Node] | None:
    """The two or three Gathers whose sum the root normalises; they and the sums are claimed."""
    found: list[ir.Node] = []
    sums = [m.root.inputs[0]]
    while sums:
        value = sums.pop()
        node = producer(value, "Add", "Gather")
        if node is None or len(found) > 3:
            return None
        m.take(node)
        if is_op(node, "Add"):
            sums.extend(node.inputs)
        else:
            found.append(node)
    return found if len(found) in (2, 3) else None


def _unfit(m: Match, gathers: list[ir.Node]) -> Skip | None:
    scale, shift = m.root.inputs[1], m.root.inputs[2] if len(m.root.inputs) > 2 else None
    taken = m.target.takes(KERNEL, m.outputs[0].dtype)
    if shift is None or not taken or norm_axis(m.root) != -1 or attribute(m.root, "stash_type", 1) != 1:
        return skip("the kernel takes the last axis and a shift, and not %s", m.outputs[0].dtype)
    for node in gathers:
        table, indices = node.inputs
        if (
            table is None
            or table.shape is None
            or len(table.shape) != 2
            or attribute(node, "axis", 0) != 0
            or scale is None
            or not same_shape(list(table.shape)[1:], scale.shape)
        ):
            return skip("%s does not look up rows as long as the scale", node.name)
        if indices is None or indices.shape is None or len(indices.shape) != 2:
            return skip("the indices of %s are not [batch, tokens]", node.name)
        if not (m.fast_math or m.ranges.is_nonnegative(indices)):
            return skip("'%s' may be negative: Gather counts from the end then, the kernel fails", indices.name)
    return None


def _order(gathers: list[ir.Node]) -> tuple[ir.Node, ir.Node, ir.Node | None] | None:
    """Which of them looks up words, positions and segments; only positions may be the same for the whole batch."""
    shapes = [list(node.inputs[1].shape or ()) for node in gathers]  # type: ignore[union-attr]
    shared = [index for index, shape in enumerate(shapes) if shape[0] == 1 and not all(same(shape[0], other[0]) for other in shapes)]
    if len(shared) > 1:
        return None
    position = shared[0] if shared else 1
    rest = [index for index in range(len(gathers)) if index != position]
    if not all(same_shape(shapes[rest[0]], shapes[index]) for index in rest) or not same(shapes[rest[0]][1], shapes[position][1]):
        return None
    if not shared and not same_shape(shapes[rest[0]], shapes[position]):
        return None
    return gathers[rest[0]], gathers[position], gathers[rest[1]] if len(rest) > 1 else None


def _indices(op: Build, node: ir.Node | None) -> object:
    """The indices of a Gather as the kernel takes them."""
    if node is None or node.inputs[1] is None or node.inputs[1].dtype == ir.DataType.INT32:
        return node.inputs[1] if node is not None else None
    return op.Cast(node.inputs[1], to=ir.DataType.INT32.value)
