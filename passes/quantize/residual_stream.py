"""The residual stream of a transformer, found from its norms: embedding, sums, norms and the weights on both sides, whatever the architecture.

Also the smaller streams inside attention, from the values of a head to the projection after it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import onnx_ir as ir

from ...compiler.core.graph import all_graphs, attribute, constant, is_op
from ...compiler.core.reasons import Skip
from ...compiler.core.shapes import dims_of
from .absorb import NORMS
from .following import Edge, Follower

__all__ = ["Stream", "head_streams", "residual_streams"]


@dataclass(frozen=True)
class Stream:
    """Values in one basis: ``X -> X (I x R)``, R of ``width`` rows, is possible by changing ``writers`` and ``readers`` when the scales and biases of
    ``norms`` are in their readers. Where a norm is a LayerNormalization, R has to keep the vector of ones.

    ``name`` is that of its first value.
    """

    name: str
    width: int
    writers: tuple[Edge, ...]
    readers: tuple[Edge, ...]
    norms: tuple[ir.Node, ...]

    @property
    def centred(self) -> bool:
        """Whether a norm takes the mean away."""
        return any(is_op(node, "LayerNormalization") for node in self.norms)


def residual_streams(model: ir.Model) -> Iterator[Stream | tuple[str, Skip]]:
    """Every stream that norms read, in graph order; or its first norm's input and why its basis cannot be changed. Shapes have to be settled."""
    done: set[ir.Node] = set()
    for graph in all_graphs(model):
        for node in graph:
            dims = dims_of(node.inputs[0]) if is_op(node, *NORMS) and node not in done and node.inputs[0] is not None else None
            if dims is None or not isinstance(dims[-1], int) or dims[-1] < 2:
                continue
            value = node.inputs[0]
            assert value is not None
            found = _followed(value, len(dims) - 1, dims[-1])
            done.update(found.norms)
            yield found if isinstance(found, Stream) else (found.name, found.reason)


def head_streams(model: ir.Model) -> Iterator[Stream]:
    """Every stream from a projection of values through attention to the projection after it, the channels of all heads in one basis."""
    taken: set[tuple[ir.Node, int]] = set()
    for graph in all_graphs(model):
        for node in graph:
            width = _head_width(node)
            if width is None or width < 2:
                continue
            result = node.outputs[0]
            found = _followed(result, len(dims_of(result) or ()) - 1, width)
            if not isinstance(found, Stream) or found.norms or not found.readers or not found.writers:
                continue
            places = {(edge.node, edge.index) for edge in (*found.writers, *found.readers)}
            if not places & taken:
                taken |= places
                yield found


@dataclass(frozen=True)
class _Refused:
    name: str
    norms: tuple[ir.Node, ...]
    reason: Skip


def _followed(value: ir.Value, axis: int, width: int) -> Stream | _Refused:
    follower = Follower(width)
    refusal = follower.follow(value, axis)
    name = value.name or ""
    if refusal is not None:
        return _Refused(name, tuple(follower.norms), refusal)
    return Stream(name, width, tuple(follower.writers), tuple(follower.readers), tuple(follower.norms))


def _head_width(node: ir.Node) -> int | None:
    """How many channels a head has, for an operator that weighs values by attention."""
    dims = dims_of(node.outputs[0]) if is_op(node, "MatMul", "Attention") else None
    if dims is None or not isinstance(dims[-1], int):
        return None
    if is_op(node, "Attention"):
        heads = attribute(node, "q_num_heads") if len(dims) == 3 else 1
        return dims[-1] // heads if isinstance(heads, int) and heads > 0 else None
    varies = all(constant(item) is None for item in node.inputs)
    return dims[-1] if varies and len(dims) == 4 else None
