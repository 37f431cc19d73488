"""Attention that reads K and V behind a cache: what is appended to the cache is left to the operator."""

from __future__ import annotations

import onnx_ir as ir

from ...compiler.core.build import Build
from ...compiler.core.dims import positive_given, same, same_shape
from ...compiler.core.drift import ROUNDING
from ...compiler.core.graph import attribute, producer
from ...compiler.core.reasons import skip
from ...compiler.core.rule import Match, Result, rule
from ...compiler.core.shapes import never_zero
from .attention_heads import NEW, plain_attention

INPUTS = "float[2,4,3,8] q, float[2,2,3,8] k, float[2,2,3,8] v, float[2,2,P,8] pk, float[2,2,P,8] pv"
APPENDED = "kk = Concat<axis=2>(pk, k) vv = Concat<axis=2>(pv, v)"


@rule(
    "Attention",
    drift=ROUNDING,
    opset=13,
    examples=[
        f"{NEW}g ({INPUTS}) => (float[2,4,3,8] y, float[2,2,T,8] kk, float[2,2,T,8] vv) {{ {APPENDED} y = Attention<scale=0.5>(q, kk, vv) }}",
        f"{NEW}g ({INPUTS.replace('P', '2')}, float[2,1,3,5] mask) => (float[2,4,3,8] y, float[2,2,5,8] kk, float[2,2,5,8] vv)"
        f" {{ {APPENDED} y = Attention<scale=0.5>(q, kk, vv, mask) }}",
    ],
    leaves=[
        f"{NEW}g ({INPUTS}) => (float[2,4,3,8] y, float[2,2,T,8] kk) {{ {APPENDED} y = Attention<scale=0.5>(q, kk, vv) }}",
        f"{NEW}g ({INPUTS}) => (float[2,4,3,8] y, float[2,2,T,8] kk, float[2,2,U,8] vv)"
        " { kk = Concat<axis=2>(k, pk) vv = Concat<axis=2>(pv, v, pv) y = Attention<scale=0.5>(q, kk, vv) }",
        f"{NEW}g (float[2,4,3,8] q, float[2,2,N,8] k, float[2,2,N,8] v, float[2,2,3,8] pk, float[2,2,3,8] pv)"
        f" => (float[2,4,3,8] y, float[2,2,T,8] kk, float[2,2,T,8] vv) {{ {APPENDED} y = Attention<scale=0.5>(q, kk, vv) }}",
        f"{NEW}g (float[2,4,3,8] q, float[2,1,3,8] k, float[2,1,3,8] v, float[2,1,3,8] pk, float[2,1,3,8] pv)"
        " => (float[2,4,3,8] y, float[2,2,3,8] kk, float[2,2,3,8] vv)"
        " { kk = Concat<axis=1>(pk, k) vv = Concat<axis=1>(pv, v) y = Attention<scale=0.5>(q, kk, vv) }",
    ],
)
def raise_attention_cache(op: Build, m: Match) -> Result:
    """Attention(q, [past_k k], [past_v v], mask) -> Attention(q, k, v, mask, past_k, past_v), which also gives the caches as they are then"""
    node = plain_attention(m.root, 4)
    if node is None:
        return None
    for_k, for_v = (_appended(item) for item in node.inputs[1:3])
    if for_k is None or for_v is None:
        return None
    if not all(item is not None and item.is_graph_output() for item in node.inputs[1:3]):
        return skip("the caches are not given back, and the kernel only reads those it gives back")
    (past_k, k), (past_v, v) = for_k, for_v
    if past_k.shape is None or past_v.shape is None or k.shape is None or not same(past_k.shape[2], past_v.shape[2]):
        return skip("the caches hold %s and %s tokens", past_k.shape, past_v.shape)
    if not positive_given(k.shape[2], never_zero(node)):
        return skip("%s tokens may be appended, none of which the kernel refuses", k.shape[2])
    m.also(*(item for item in node.inputs[1:3] if item is not None))
    mask = node.inputs[3] if len(node.inputs) > 3 else None
    attributes = {name: attr for name, attr in node.attributes.items() if name in ("scale", "softcap")}
    return op.Attention(node.inputs[0], k, v, mask, past_k, past_v, _outputs=3, **attributes)


def _appended(value: ir.Value | None) -> tuple[ir.Value, ir.Value] | None:
    """The cache and what is appended to it."""
    node = producer(value, "Concat")
    if node is None or len(node.inputs) != 2 or attribute(node, "axis") not in (2, -2):
        return None
    past, new = node.inputs
    if past is None or new is None or past.shape is None or new.shape is None or len(past.shape) != 4:
        return None
    ends = [[shape[0], shape[1], shape[3]] for shape in (past.shape, new.shape)]
    return (past, new) if same_shape(*ends) else None
