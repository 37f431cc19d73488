"""Which values of the compressed model are held against those of the original: where all data passes through one tensor, and where it attends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import onnx_ir as ir

from ...compiler.core.graph import constant, is_op
from ...compiler.core.sites import site_of

__all__ = ["Attends", "attentions", "evenly", "trunk"]

QUERIES, KEYS, VALUES, MASK = range(4)


def trunk(model: ir.Model) -> list[str]:
    """The values that everything after them depends on through nothing else, in graph order; of several with no weight between them the last.

    Only values that a weight went into count: what is computed of masks and positions alone runs beside the trunk. These are the outputs of blocks:
    of a residual layer, of a stage.
    """
    weighed, reads = _weighed(model), _last_reads(model)
    live: set[ir.Value] = set()
    found: list[tuple[str, int]] = []
    weights = 0
    for place, node in enumerate(model.graph):
        weights += _has_weight(node)
        live.update(value for value in node.outputs if value in weighed and reads.get(value, -1) > place)
        live = {value for value in live if reads[value] > place}
        if len(live) == 1:
            (value,) = live
            if value in node.outputs and value.name and _is_data(value):
                if found and found[-1][1] == weights:
                    found.pop()
                found.append((value.name, weights))
    return [name for name, _ in found]


def evenly(names: Sequence[str], most: int) -> list[str]:
    """At most so many of them, the last among them, evenly spread."""
    if len(names) <= most:
        return list(names)
    return [names[(place + 1) * len(names) // most - 1] for place in range(most)]


@dataclass(frozen=True)
class Attends:
    """Where a model attends: an ``Attention`` node, or a Softmax over what a product gives. ``name`` is that of its output."""

    name: str
    node: ir.Node

    @property
    def reads(self) -> list[str]:
        """The values that say where it looks: queries, keys, values and the mask; or the map itself."""
        if not is_op(self.node, "Attention"):
            return [self.name]
        return [value.name for value in self.node.inputs[: MASK + 1] if value is not None and value.name and constant(value) is None]


def attentions(model: ir.Model) -> list[Attends]:
    """Every place of the main graph where it attends, in graph order."""
    found = []
    for node in model.graph:
        softmax = is_op(node, "Softmax") and len(node.outputs[0].shape or ()) >= 3 and any(is_op(use.node, "MatMul") for use in node.outputs[0].uses())
        if (is_op(node, "Attention") or softmax) and node.outputs[0].name:
            found.append(Attends(node.outputs[0].name, node))
    return found


def _has_weight(node: ir.Node) -> bool:
    if site_of(node) is not None or is_op(node, "LSTM", "GRU", "RNN"):
        return True
    return is_op(node, "DequantizeLinear", "Cast") and constant(node.inputs[0]) is not None


def _weighed(model: ir.Model) -> set[ir.Value]:
    """The values that a weight went into."""
    found: set[ir.Value] = set()
    for node in model.graph:
        product = site_of(node) is not None or is_op(node, "LSTM", "GRU", "RNN", "Conv", "ConvTranspose", "Gemm", "MatMul")
        if (product and constant(node.outputs[0]) is None) or any(value in found for value in node.inputs if value is not None):
            found.update(node.outputs)
    return found


def _last_reads(model: ir.Model) -> dict[ir.Value, int]:
    """Where each value is read last; a graph output is read behind the end."""
    nodes = list(model.graph)
    found = {value: place for place, node in enumerate(nodes) for value in node.inputs if value is not None}
    found.update(dict.fromkeys(model.graph.outputs, len(nodes)))
    return found


def _is_data(value: ir.Value) -> bool:
    return value.dtype is None or value.dtype.is_floating_point()
