"""Values that only matrix products with constant weights read, and changing what all of them read at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from ...compiler.core.graph import attribute, constant, is_op, node_label, users
from ...compiler.core.reasons import Skip, skip
from ...compiler.core.sites import Site
from ..fold.readers import only_reader
from .changes import Changes

__all__ = ["Shared", "more_bias", "shared_inputs"]


@dataclass(frozen=True)
class Shared:
    """A value X whose last axis some matrix products sum over; ``alone`` says that nobody else reads it."""

    value: ir.Value
    sites: tuple[Site, ...]
    alone: bool

    @property
    def name(self) -> str:
        """The name of the value."""
        return self.value.name or ""

    @property
    def rank(self) -> int:
        """How many dimensions the value has."""
        return len(self.value.shape or ())

    def weight(self) -> np.ndarray:
        """The weights of all sites side by side, float32 [K, M]."""
        return np.concatenate([site.matrices()[0] for site in self.sites], axis=1)

    def rewrite(self, changes: Changes, scale: np.ndarray, shift: np.ndarray) -> Skip | None:
        """Note what the sites' weights and biases become when they read ``(X - shift) / scale``; float64 [K]. Why that cannot be."""
        for site in self.sites:
            stored = changes.read(site.node, site.weight_at)
            if stored is None:
                return skip("the weight of '%s' is no constant of floats", site.name)
            rows = scale[None, :] if site.flipped else scale[:, None]
            refusal = changes.write(site.node, site.weight_at, stored * rows)
            if refusal is None and shift.any():
                refusal = more_bias(changes, site.node, shift @ (stored.T if site.flipped else stored))
            if refusal is not None:
                return refusal
        return None


def shared_inputs(sites: Iterable[Site]) -> Iterator[Shared]:
    """What matrix products with a weight on the right read, in the order of the sites; those of subgraphs are left out."""
    groups: dict[ir.Value, list[Site]] = {}
    for site in sites:
        plain = (site.kind == "MatMul" and site.weight_at == 1) or (site.kind == "Gemm" and _is_plain(site.node))
        if plain and site.data.shape is not None and not site.data.is_graph_input() and site.data.graph is site.node.graph:
            groups.setdefault(site.data, []).append(site)
    for value, found in groups.items():
        nodes = {site.node for site in found}
        if all(site.node.graph is value.graph for site in found):
            yield Shared(value, tuple(found), not value.is_graph_output() and all(reader in nodes for reader in users(value)))


def _is_plain(node: ir.Node) -> bool:
    return float(attribute(node, "alpha", 1.0)) == 1.0 and float(attribute(node, "beta", 1.0)) == 1.0  # type: ignore[arg-type]


def more_bias(changes: Changes, node: ir.Node, added: np.ndarray) -> Skip | None:
    """Add a vector to the bias of a Gemm, Conv or MatMul: its own, or that of the Add which alone reads it."""
    if len(node.inputs) > 2 and node.inputs[2] is not None:
        bias = changes.read(node, 2)
        return skip("the bias of %s is no constant of floats", node_label(node)) if bias is None else changes.write(node, 2, bias + added)
    reader = only_reader(node.outputs[0])
    if reader is None or not is_op(reader, "Add"):
        return skip("%s has no bias that a shift could go into", node_label(node))
    index = next((index for index in (0, 1) if constant(reader.inputs[index]) is not None), None)
    term = None if index is None else changes.read(reader, index)
    if term is None or index is None or any(size != 1 for size in term.shape[:-1]):
        return skip("%s has no bias that a shift could go into", node_label(node))
    return changes.write(reader, index, term + added)
