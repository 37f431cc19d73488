"""What the kernels that take a residual sum and its norm in one have in common."""

from __future__ import annotations

from ...compiler.core.dims import same_shape
from ...compiler.core.graph import attribute
from ...compiler.core.reasons import Skip, skip
from ...compiler.core.rule import Match
from ..raising.layer_norm import norm_axis


def epsilon_of(m: Match) -> float:
    """The epsilon of the node drawn as ``norm``."""
    return float(attribute(m.node("norm"), "epsilon", 1e-5))  # type: ignore[arg-type]


def unfit(m: Match, kernel: str) -> Skip | None:
    """Why the kernel cannot take ``norm`` of the sum of ``x`` and ``residual`` with ``scale``."""
    node, shape = m.node("norm"), m.x.shape
    if not m.target.takes(kernel, m.x.dtype) or attribute(node, "stash_type", 1) != 1:
        return skip("the kernel does not take %s", m.x.dtype)
    if m.scale.dtype != m.x.dtype:
        return skip("the scale is %s, '%s' is %s", m.scale.dtype, m.x.name, m.x.dtype)
    if shape is None or len(shape) not in (2, 3) or norm_axis(node) != -1:
        return skip("it normalises from axis %s of shape %s", norm_axis(node), shape)
    if not same_shape(shape, m.residual.shape):
        return skip("'%s' has shape %s, '%s' %s", m.x.name, shape, m.residual.name, m.residual.shape)
    if not isinstance(shape[-1], int) or m.scale.shape is None or list(m.scale.shape) != [shape[-1]]:
        return skip("the scale has shape %s", m.scale.shape)
    return None
