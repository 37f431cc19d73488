"""The heads of a raised Attention: splitting, merging and repeating them is left to the operator."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from ...compiler.core.build import Build
from ...compiler.core.dims import Dim, multiply, same, same_shape
from ...compiler.core.drift import ROUNDING
from ...compiler.core.graph import array, attribute, is_op, producer, scalar
from ...compiler.core.reasons import Skip, skip
from ...compiler.core.rule import Match, Result, rule
from .attention_core import unscaled

TO_HEADS = [0, 2, 1, 3]
"""[batch, tokens, heads, size] to [batch, heads, tokens, size], and back."""
PACKED_TO_HEADS = [2, 0, 3, 1, 4]
"""[batch, tokens, 3, heads, size] to [3, batch, heads, tokens, size]."""
INPUTS = "float[2,3,8] q, float[2,5,8] k, float[2,5,12] v"
SPLIT = "a = Reshape(q, s) b = Reshape(k, s) c = Reshape(v, sv) qh = Transpose<perm=[0,2,1,3]>(a) kh = Transpose<perm=[0,2,1,3]>(b)"
CONSTANTS = "int64[4] s = {0,0,2,4}, int64[4] sv = {0,0,2,6}"
MERGED = "vh = Transpose<perm=[0,2,1,3]>(c) o = Attention<scale=0.5>(qh, kh, vh) t = Transpose<perm=[0,2,1,3]>(o)"
NEW = '<ir_version: 10, opset_import: ["" : 23]>\n'
GROUPED = "float[2,4,3,8] q, float[2,2,5,8] k, float[2,2,5,8] v"
REPEATED = "ku = Unsqueeze(k, two) vu = Unsqueeze(v, two) ke = Expand(ku, e) ve = Expand(vu, e) kr = Reshape(ke, r) vr = Reshape(ve, r)"


def plain_attention(node: ir.Node | None, rank: int) -> ir.Node | None:
    """The Attention without caches or further outputs, on operands of this rank."""
    if node is None or not is_op(node, "Attention") or len(node.inputs) > 4 and any(item is not None for item in node.inputs[4:]):
        return None
    further = any(value.name and (value.uses() or value.is_graph_output()) for value in node.outputs[1:])
    return None if further else _of_rank(node, rank)


def cached_attention(node: ir.Node | None) -> ir.Node | None:
    """The Attention with a cache of K and V, on 4-D operands."""
    cached = node is not None and is_op(node, "Attention") and len(node.inputs) == 6 and len(node.outputs) == 3
    return _of_rank(node, 4) if node is not None and cached and None not in node.inputs[4:] else None


def _of_rank(node: ir.Node, rank: int) -> ir.Node | None:
    query = node.inputs[0]
    return None if query is None or query.shape is None or len(query.shape) != rank else node


@rule(
    "Reshape",
    drift=ROUNDING,
    opset=13,
    examples=[
        f"{NEW}g ({INPUTS}) => (float[2,3,12] y) <{CONSTANTS}, int64[3] r = {{0,0,12}}> {{ {SPLIT} {MERGED} y = Reshape(t, r) }}",
        f"{NEW}g ({INPUTS}) => (float[6,12] y) <{CONSTANTS}, int64[2] r = {{-1,12}}> {{ {SPLIT} {MERGED} y = Reshape(t, r) }}",
        f"{NEW}g ({INPUTS}, float[2,1,3,5] mask) => (float[2,3,12] y) <{CONSTANTS}, int64[3] r = {{2,3,-1}}>"
        f" {{ {SPLIT} vh = Transpose<perm=[0,2,1,3]>(c) o = Attention<scale=0.5>(qh, kh, vh, mask) t = Transpose<perm=[0,2,1,3]>(o) y = Reshape(t, r) }}",
        f"{NEW}g (float[6,8] q2, float[10,8] k2, float[10,12] v2) => (float[2,3,12] y) <int64[4] s = {{2,-1,2,4}}, int64[4] sv = {{2,5,2,6}},"
        f" int64[3] r = {{0,0,12}}> {{ q = Relu(q2) k = Relu(k2) v = Relu(v2) {SPLIT} {MERGED} y = Reshape(t, r) }}",
        f"{NEW}g (float[2,3,24] x) => (float[2,3,8] y) <int64[5] s = {{2,3,3,2,4}}, int64[3] r = {{0,0,8}}, int64 zero = {{0}}, int64 one = {{1}},"
        " int64 two = {2}> { a = Reshape(x, s) b = Transpose<perm=[2,0,3,1,4]>(a) q = Gather(b, zero) k = Gather(b, one) v = Gather(b, two)"
        " o = Attention<scale=0.5>(q, k, v) t = Transpose<perm=[0,2,1,3]>(o) y = Reshape(t, r) }",
        f"{NEW}g (float[2,3,24] x) => (float[2,3,8] y) <int64[5] s = {{2,3,3,2,4}}, int64[3] r = {{0,0,8}}, int64[1] zero = {{0}}>"
        " { a = Reshape(x, s) b = Transpose<perm=[2,0,3,1,4]>(a) q5, k5, v5 = Split<num_outputs=3>(b) q = Squeeze(q5, zero) k = Squeeze(k5, zero)"
        " v = Squeeze(v5, zero) o = Attention<scale=0.5>(q, k, v) t = Transpose<perm=[0,2,1,3]>(o) y = Reshape(t, r) }",
        f"{NEW}g (float[2,1,8] q, float[2,5,8] k, float[2,5,12] v) => (float[2,1,12] y) <{CONSTANTS}, int64[4] s1 = {{0,2,1,4}}, int64[3] r = {{0,1,12}}>"
        f" {{ {SPLIT.replace('qh = ', 'qx = ')} qh = Reshape(q, s1) vh = Transpose<perm=[0,2,1,3]>(c) o = Attention<scale=0.5>(qh, kh, vh)"
        " y = Reshape(o, r) }",
        f"{NEW}g ({INPUTS.replace('12', '8')}, float[2,2,P,4] pk, float[2,2,P,4] pv) => (float[2,3,8] y, float[2,2,T,4] kk, float[2,2,T,4] vv)"
        f" <{CONSTANTS}, int64[3] r = {{0,0,8}}> {{ {SPLIT.replace('sv', 's')} vh = Transpose<perm=[0,2,1,3]>(c)"
        " o, kk, vv = Attention<scale=0.5>(qh, kh, vh, , pk, pv) t = Transpose<perm=[0,2,1,3]>(o) y = Reshape(t, r) }",
        f"{NEW}g (float[2,3,8] q, float[2,5,4] k, float[2,5,6] v) => (float[2,3,12] y) <int64[4] s = {{0,0,2,4}}, int64[4] sk = {{0,0,1,4}},"
        " int64[4] sv = {0,0,1,6}, int64[3] r = {0,0,12}> { a = Reshape(q, s) b = Reshape(k, sk) c = Reshape(v, sv) qh = Transpose<perm=[0,2,1,3]>(a)"
        f" kh = Transpose<perm=[0,2,1,3]>(b) {MERGED} y = Reshape(t, r) }}",
    ],
    leaves=[
        f"{NEW}g (float[2,2,3,4] qh, float[2,2,5,4] kh, float[2,2,5,6] vh) => (float[2,3,12] y) <int64[3] r = {{0,0,12}}>"
        " { o = Attention<scale=0.5>(qh, kh, vh) t = Transpose<perm=[0,2,1,3]>(o) y = Reshape(t, r) }",
        f"{NEW}g ({INPUTS}) => (float[2,2,18] y) <{CONSTANTS}, int64[3] r = {{0,0,18}}>"
        f" {{ {SPLIT} vh = Transpose<perm=[0,2,1,3]>(c) o = Attention<scale=0.5>(qh, kh, vh) y = Reshape(o, r) }}",
        f"{NEW}g (float[2,4,8] q, float[2,4,8] k, float[2,4,8] v) => (float[2,2,16] y) <int64[4] s = {{2,2,4,4}}, int64[3] r = {{0,0,16}}>"
        " { qh = Reshape(q, s) kh = Reshape(k, s) vh = Reshape(v, s) o = Attention<scale=0.5>(qh, kh, vh) t = Transpose<perm=[0,2,1,3]>(o)"
        " z = Transpose<perm=[0,2,1,3]>(t) y = Reshape(z, r) }",
    ],
)
def merge_attention_heads(op: Build, m: Match) -> Result:
    """merge(Attention(split(q), split(k), split(v))) -> Attention(q, k, v, q_num_heads, kv_num_heads)"""
    merge = before_merge(m, m.root)
    if merge is None:
        return None
    attended = merge.value.producer()
    node = plain_attention(attended, 4) or cached_attention(attended)
    if node is None or merge.value is not node.outputs[0]:
        return None
    m.take(node)
    operands = [node.inputs[index] for index in range(3)]
    flat = [item and tokens_first(op, item) for item in operands]
    heads = [item.shape[1] if item is not None and item.shape is not None else None for item in operands]
    if any(item is None for item in flat):
        return skip("the heads of Q, K and V are not all split from [batch, tokens, heads * size]")
    if not all(isinstance(count, int) for count in heads):
        return skip("there are %s heads", heads)
    made = op.like(node, *flat, *node.inputs[3:], q_num_heads=heads[0], kv_num_heads=heads[1])
    merged, *caches = made if isinstance(made, tuple) else (made,)
    shaped = merged_as(op, m.root, merge, merged)
    if isinstance(shaped, Skip) or not caches:
        return shaped
    m.also(*node.outputs[1:])
    return (shaped, *caches)


@dataclass(frozen=True)
class Merge:
    """What a Reshape merges the heads of, [batch, heads, tokens, size], and the shape that has with the tokens first."""

    value: ir.Value
    whole: tuple[Dim, ...]


def before_merge(m: Match, root: ir.Node) -> Merge | None:
    """What a Reshape merges, claiming the Transpose before it; a single token needs none."""
    value = root.inputs[0]
    moved = producer(value, "Transpose")
    if moved is not None and moved.inputs[0] is not None and moved.outputs[0].shape is not None:
        if list(attribute(moved, "perm") or []) != TO_HEADS:  # type: ignore[call-overload]
            return None
        m.take(moved)
        return Merge(moved.inputs[0], tuple(moved.outputs[0].shape))
    if value is None or value.shape is None or len(value.shape) != 4 or value.shape[2] != 1:
        return None
    batch, heads, one, size = value.shape
    return Merge(value, (batch, one, heads, size))


def merged_as(op: Build, root: ir.Node, merge: Merge, made: ir.Value) -> ir.Value | Skip:
    """What the heads were merged to: the operator's [batch, tokens, heads * size], or another view of it."""
    target = root.outputs[0].shape
    if target is None:
        return skip("the shapes are not known")
    if same_shape(target, (merge.whole[0], merge.whole[1], multiply(merge.whole[2], merge.whole[3]))):
        return made
    wanted = array(root.inputs[1])
    if wanted is None or (wanted == 0).any():
        return skip("the heads are merged to %s", target)
    return op.Reshape(made, root.inputs[1])  # type: ignore[return-value]


def tokens_first(op: Build, value: ir.Value) -> ir.Value | None:
    """[batch, tokens, heads * size] behind ``value``, [batch, heads, tokens, size], where it costs nothing to get there."""
    node = value.producer()
    if is_op(node, "RotaryEmbedding") and len(value.uses()) == 1:
        return _rotated(op, node, value)  # type: ignore[arg-type]
    if is_op(node, "Transpose") and list(attribute(node, "perm") or []) == TO_HEADS:  # type: ignore[arg-type, call-overload]
        return _joined(op, node.inputs[0])  # type: ignore[union-attr]
    return _single(op, value) or _unpacked(op, value)


def _single(op: Build, value: ir.Value) -> ir.Value | None:
    """The same for a single token, which needs no Transpose."""
    if value.shape is None or len(value.shape) != 4 or value.shape[2] != 1:
        return None
    batch, heads, one, size = value.shape
    if not isinstance(heads, int) or not isinstance(size, int) or heads * size == 0:
        return None
    node = producer(value, "Reshape")
    source = node.inputs[0] if node is not None else None
    if source is not None and same_shape(source.shape, (batch, one, heads * size)):
        return source
    return op.Reshape(value, op.const([0, 1, heads * size], "joined"))  # type: ignore[return-value]


def _rotated(op: Build, node: ir.Node, value: ir.Value) -> ir.Value | None:
    source, heads = node.inputs[0], value.shape[1] if value.shape is not None else None
    flat = tokens_first(op, source) if source is not None and isinstance(heads, int) else None
    return None if flat is None else op.like(node, flat, *node.inputs[1:], num_heads=heads)  # type: ignore[return-value]


def _joined(op: Build, split: ir.Value | None) -> ir.Value | None:
    """[batch, tokens, heads * size] from [batch, tokens, heads, size], and the same with three of each side by side."""
    if split is None or split.shape is None:
        return None
    sizes = list(split.shape)[2:]
    if not all(isinstance(size, int) and size > 0 for size in sizes):
        return None
    width = 1
    for size in sizes:
        width *= size  # type: ignore[assignment]
    node = producer(split, "Reshape")
    source = node.inputs[0] if node is not None else None
    if source is not None and same_shape(source.shape, [*list(split.shape)[:2], width]):
        return source
    return op.Reshape(split, op.const([0, 0, width], "joined"))  # type: ignore[return-value]


def _unpacked(op: Build, value: ir.Value) -> ir.Value | None:
    """A third of the packed projection that ``value`` is taken from."""
    node = value.producer()
    taken: ir.Value | None = None
    index: int | None = None
    if is_op(node, "Gather") and attribute(node, "axis", 0) == 0 and node.inputs[1] is not None and node.inputs[1].shape == ir.Shape([]):  # type: ignore[arg-type, union-attr]
        place = scalar(node.inputs[1])  # type: ignore[union-attr]
        taken, index = node.inputs[0], None if place is None else int(place)  # type: ignore[union-attr]
    elif is_op(node, "Squeeze"):
        part = producer(node.inputs[0], "Split")  # type: ignore[union-attr]
        if part is not None and attribute(part, "axis", 0) == 0:
            taken, index = part.inputs[0], node.inputs[0].index()  # type: ignore[union-attr]
    moved = producer(taken, "Transpose")
    if moved is None or index is None or list(attribute(moved, "perm") or []) != PACKED_TO_HEADS:  # type: ignore[call-overload]
        return None
    packed = moved.inputs[0]
    count = packed.shape[2] if packed is not None and packed.shape is not None else None
    if not isinstance(count, int) or value.shape is None or len(value.shape) != 4 or not -count <= index < count:
        return None
    whole, (heads, size) = _joined(op, packed), (value.shape[1], value.shape[3])
    if whole is None or not isinstance(heads, int) or not isinstance(size, int):
        return None
    start = index % count * heads * size
    return op.Slice(whole, op.const([start]), op.const([start + heads * size]), op.const([2]))  # type: ignore[return-value]


@rule(
    "Attention",
    drift=ROUNDING,
    opset=13,
    examples=[
        f"{NEW}g ({GROUPED}) => (float[2,4,3,8] y) <int64[1] two = {{2}}, int64[5] e = {{1,1,2,1,1}}, int64[4] r = {{0,4,-1,8}}>"
        f" {{ {REPEATED} y = Attention<scale=0.5>(q, kr, vr) }}",
        f"{NEW}g (float[2,4,3,8] q, float[2,1,5,8] k, float[2,1,5,8] v) => (float[2,4,3,8] y) <int64[4] e = {{2,4,5,8}}>"
        " { kr = Expand(k, e) vr = Expand(v, e) y = Attention<scale=0.5>(q, kr, vr) }",
        f"{NEW}g ({GROUPED}) => (float[2,4,3,8] y) <int64[1] two = {{2}}, int64[5] e = {{1,1,2,1,1}}, int64[4] r = {{0,4,-1,8}}>"
        " { ku = Unsqueeze(k, two) vu = Unsqueeze(v, two) ke = Tile(ku, e) ve = Tile(vu, e) kr = Reshape(ke, r) vr = Reshape(ve, r)"
        " y = Attention<scale=0.5>(q, kr, vr) }",
        f"{NEW}g ({GROUPED}) => (float[2,4,3,8] y) <int64[1] two = {{2}}, int64[4] r = {{0,4,-1,8}}>"
        " { ku = Unsqueeze(k, two) vu = Unsqueeze(v, two) ke = Concat<axis=2>(ku, ku) ve = Concat<axis=2>(vu, vu) kr = Reshape(ke, r)"
        " vr = Reshape(ve, r) y = Attention<scale=0.5>(q, kr, vr) }",
    ],
    leaves=[
        f"{NEW}g ({GROUPED}) => (float[2,4,3,8] y) <int64[1] one = {{1}}, int64[5] e = {{1,2,1,1,1}}, int64[4] r = {{0,4,-1,8}}>"
        " { ku = Unsqueeze(k, one) vu = Unsqueeze(v, one) ke = Expand(ku, e) ve = Expand(vu, e) kr = Reshape(ke, r) vr = Reshape(ve, r)"
        " y = Attention<scale=0.5>(q, kr, vr) }",
        f"{NEW}g (float[2,4,3,8] q, float[2,2,5,8] k, float[2,4,5,8] vr) => (float[2,4,3,8] y) <int64[1] two = {{2}}, int64[5] e = {{1,1,2,1,1}},"
        " int64[4] r = {0,4,-1,8}> { ku = Unsqueeze(k, two) ke = Expand(ku, e) kr = Reshape(ke, r) y = Attention<scale=0.5>(q, kr, vr) }",
    ],
)
def share_attention_heads(op: Build, m: Match) -> Result:
    """Attention(q, repeat(k, n), repeat(v, n)) -> Attention(q, k, v), where n heads of Q read one of K and V"""
    node = plain_attention(m.root, 4)
    if node is None:
        return None
    k, v = (unrepeated(op, item) for item in node.inputs[1:3])
    if k is None or v is None:
        return None
    counts = [_shared_heads(item) for item in node.inputs[1:3]]
    if counts[0] is None or counts[1] is None or not same(counts[0], counts[1]):
        return skip("K is repeated from %s heads and V from %s", *counts)
    return op.like(node, node.inputs[0], k, v, *node.inputs[3:4])


def unrepeated(op: Build, value: ir.Value | None) -> ir.Value | None:
    """[batch, heads, keys, size] of which ``value`` repeats each head in place; None when it does not."""
    if value is None or value.shape is None or len(value.shape) != 4:
        return None
    spread = producer(value, "Expand")
    if spread is not None:
        return _one_head(spread.inputs[0], value)
    joined = producer(value, "Reshape")
    spread = producer(joined.inputs[0], "Expand", "Tile", "Concat") if joined is not None else None
    single = spread.inputs[0] if spread is not None else None
    if spread is None or single is None or single.shape is None or len(single.shape) != 5:
        return None
    if is_op(spread, "Concat") and len(set(spread.inputs)) != 1:
        return None
    batch, heads, one, keys, size = single.shape
    many = spread.outputs[0].shape
    times = many[2] if many is not None and len(many) == 5 else None
    if one != 1 or times is None or not same_shape(many, (batch, heads, times, keys, size)):
        return None
    if not same_shape(value.shape, (batch, multiply(heads, times), keys, size)):
        return None
    lifted = producer(single, "Unsqueeze", "Reshape")
    source = lifted.inputs[0] if lifted is not None else None
    if source is not None and same_shape(source.shape, (batch, heads, keys, size)):
        return source
    return op.Squeeze(single, op.const([2]))  # type: ignore[return-value]


def _shared_heads(value: ir.Value | None) -> Dim | None:
    """How many heads a repeated K or V has before it is repeated."""
    spread = producer(value, "Expand")
    joined = producer(value, "Reshape")
    single = spread if spread is not None else producer(joined.inputs[0]) if joined is not None else None
    source = single.inputs[0] if single is not None else None
    return source.shape[1] if source is not None and source.shape is not None else None


def _one_head(source: ir.Value | None, value: ir.Value) -> ir.Value | None:
    if source is None or source.shape is None or value.shape is None or len(source.shape) != 4 or len(value.shape) != 4:
        return None
    wanted: tuple[Dim, ...] = (value.shape[0], 1, value.shape[2], value.shape[3])
    return source if same_shape(source.shape, wanted) else None


@rule(
    "Attention",
    drift=ROUNDING,
    opset=13,
    examples=[
        f"{NEW}g ({INPUTS}) => (float[2,3,12] y) <float c = {{0.25}}>"
        " { a = Mul(q, c) y = Attention<scale=0.5, q_num_heads=2, kv_num_heads=2>(a, k, v) }",
        f"{NEW}g ({INPUTS}) => (float[2,3,12] y) <float c = {{4}}>"
        " { a = Div(k, c) y = Attention<scale=0.5, q_num_heads=2, kv_num_heads=2>(q, a, v) }",
    ],
    leaves=[
        f"{NEW}g ({INPUTS}) => (float[2,3,12] y) <float c = {{-2}}>"
        " { a = Mul(q, c) y = Attention<scale=0.5, q_num_heads=2, kv_num_heads=2>(a, k, v) }",
        f"{NEW}g ({INPUTS}) => (float[2,3,12] y, float[2,5,8] a) <float c = {{2}}>"
        " { a = Mul(k, c) y = Attention<scale=0.5, q_num_heads=2, kv_num_heads=2>(q, a, v) }",
    ],
)
def scale_in_attention(op: Build, m: Match) -> Result:
    """Attention(c q, k, v, scale=a) -> Attention(q, k, v, scale=a c), and the same for k"""
    if plain_attention(m.root, 3) is None and plain_attention(m.root, 4) is None:
        return None
    scale = attribute(m.root, "scale")
    q, k = m.root.inputs[:2]
    if q is None or k is None or not isinstance(scale, float):
        return None
    (plain_q, q_factor), (plain_k, k_factor) = unscaled(q), unscaled(k)
    if plain_q is q and plain_k is k:
        return None
    if not 0 < scale * q_factor * k_factor < float("inf"):
        return skip("the scale would be %s", scale * q_factor * k_factor)
    for value in (q, k):
        if value not in (plain_q, plain_k):
            m.take(value.producer())  # type: ignore[arg-type]
    return op.like(m.root, plain_q, plain_k, *m.root.inputs[2:], scale=scale * q_factor * k_factor)


@rule(
    "Reshape",
    drift=ROUNDING,
    opset=13,
    examples=[
        f"{NEW}g (float[2,3,4,2] q, float[2,3,5,2] k, float[2,3,5,6] v) => (float[2,3,4,6] y) <int64[3] f = {{-1,4,6}}, int64[4] b = {{2,-1,4,6}}>"
        " { o = Attention<scale=0.5>(q, k, v) t = Reshape(o, f) z = Reshape(t, b) y = Relu(z) }",
    ],
    leaves=[
        f"{NEW}g (float[2,3,4,2] q, float[2,3,5,2] k, float[2,3,5,6] v) => (float[3,2,4,6] y) <int64[3] f = {{-1,4,6}}, int64[4] b = {{3,-1,4,6}}>"
        " { o = Attention<scale=0.5>(q, k, v) t = Reshape(o, f) z = Reshape(t, b) y = Relu(z) }",
    ],
)
def keep_attention_heads(op: Build, m: Match) -> Result:
    """Reshape(Reshape(Attention(q, k, v))) to the shape it has -> Attention(q, k, v)"""
    flat = producer(m.root.inputs[0], "Reshape")
    attended = flat.inputs[0] if flat is not None else None
    if attended is None or not is_op(attended.producer(), "Attention"):
        return None
    if not same_shape(attended.shape, m.root.outputs[0].shape):
        return skip("it becomes %s", m.root.outputs[0].shape)
    return attended
