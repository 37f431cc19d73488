"""Sites: one view over the operators that multiply by a constant weight, whatever they are called and however they store it.

A site computes ``Y = X W + b``: X is N x K, W is K x M, with K inputs and M output channels. A convolution is seen unfolded: a row of X is a patch,
K is channels times kernel; its groups are so many such products side by side. An embedding multiplies one-hot rows: K is the vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx_ir as ir

from .graph import all_graphs, array, attribute, constant, is_op

__all__ = ["Kind", "Site", "all_sites", "fold_matrices", "site_of", "unfold_weight"]

Kind = Literal["MatMul", "Gemm", "Conv", "ConvTranspose", "Gather"]
KINDS: tuple[Kind, ...] = ("MatMul", "Gemm", "Conv", "ConvTranspose", "Gather")
FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.DOUBLE)
MATRIX = 2


@dataclass(frozen=True)
class Site:
    """An operator with a constant floating-point weight at input ``weight_at``."""

    node: ir.Node
    kind: Kind
    weight_at: int

    @property
    def name(self) -> str:
        """What the site is called in reports: the name of what it makes, which no other site of the model has."""
        return self.node.outputs[0].name or ""

    @property
    def data(self) -> ir.Value:
        """What is multiplied by the weight (the indices of an embedding)."""
        value = self.node.inputs[1 - self.weight_at]
        assert value is not None
        return value

    @property
    def weight(self) -> ir.Value:
        """The constant."""
        value = self.node.inputs[self.weight_at]
        assert value is not None
        return value

    @property
    def bias(self) -> ir.Value | None:
        """The third input of a convolution or a Gemm, constant or not."""
        return self.node.inputs[2] if len(self.node.inputs) > 2 else None

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the weight as it is stored, without reading it."""
        tensor = constant(self.weight)
        assert tensor is not None
        return tuple(tensor.shape.numpy())

    @property
    def groups(self) -> int:
        """How many groups of channels are convolved apart; 1 for all but convolutions."""
        return int(attribute(self.node, "group", 1)) if self.kind in ("Conv", "ConvTranspose") else 1  # type: ignore[call-overload]

    @property
    def flipped(self) -> bool:
        """Whether the matrix is stored M x K: a Gemm with transB, a MatMul with its weight on the left."""
        return bool(attribute(self.node, "transB", 0)) if self.kind == "Gemm" else self.kind == "MatMul" and self.weight_at == 0

    @property
    def channel_axis(self) -> int:
        """The axis of the stored weight that counts output channels (of one group, for a ConvTranspose)."""
        if self.kind in ("Conv", "ConvTranspose"):
            return 0 if self.kind == "Conv" else 1
        return 0 if self.flipped else 1

    @property
    def parameters(self) -> int:
        """How many numbers the weight has."""
        return int(np.prod(self.shape, dtype=np.int64))

    def matrices(self) -> np.ndarray:
        """The weight as float32 [groups, K, M / groups]; a new array."""
        stored = array(self.weight)
        assert stored is not None
        return unfold_weight(stored.astype(np.float32), self)

    def stored(self, matrices: np.ndarray) -> np.ndarray:
        """Matrices [groups, K, M / groups] in the layout of the stored weight; dtype is kept."""
        return fold_matrices(matrices, self)


def site_of(node: ir.Node) -> Site | None:
    """``node`` as a site, if it is one: its weight is a constant of a floating-point type and a matrix (or the kernel of a convolution)."""
    if not is_op(node, *KINDS) or len(node.inputs) < 2 or not node.outputs[0].name:
        return None
    kind: Kind = node.op_type  # type: ignore[assignment]
    weight_at = _weight_at(node, kind)
    if weight_at is None or constant(node.inputs[1 - weight_at]) is not None or node.inputs[1 - weight_at] is None:
        return None
    tensor = constant(node.inputs[weight_at])
    if tensor is None or tensor.dtype not in FLOATS or tensor.size == 0:
        return None
    rank = len(tensor.shape)
    if rank < 3 if kind in ("Conv", "ConvTranspose") else rank != MATRIX:
        return None
    if kind == "Gemm" and attribute(node, "transA", 0):
        return None
    if kind == "Gather" and attribute(node, "axis", 0) != 0:
        return None
    return Site(node, kind, weight_at)


def all_sites(model: ir.Model) -> Iterator[Site]:
    """Every site of the model in graph order, those in subgraphs after the ones around them."""
    for graph in all_graphs(model):
        for node in graph:
            site = site_of(node)
            if site is not None:
                yield site


def unfold_weight(stored: np.ndarray, site: Site) -> np.ndarray:
    """A stored weight as [groups, K, M / groups]; see `Site`."""
    groups = site.groups
    if site.kind == "Conv":
        kernels = stored.reshape(groups, stored.shape[0] // groups, -1)
        return np.ascontiguousarray(kernels.transpose(0, 2, 1))
    if site.kind == "ConvTranspose":  # Stored [C, M / groups, kernel]: each input channel is one row, each (channel, tap) of the output a column.
        return np.ascontiguousarray(stored.reshape(groups, stored.shape[0] // groups, -1))
    matrix = stored.T if site.flipped else stored
    return np.ascontiguousarray(matrix[None])


def fold_matrices(matrices: np.ndarray, site: Site) -> np.ndarray:
    """The inverse of `unfold_weight`."""
    if site.kind == "Conv":
        return np.ascontiguousarray(matrices.transpose(0, 2, 1)).reshape(site.shape)
    if site.kind == "ConvTranspose":
        return np.ascontiguousarray(matrices).reshape(site.shape)
    return np.ascontiguousarray(matrices[0].T if site.flipped else matrices[0])


def _weight_at(node: ir.Node, kind: Kind) -> int | None:
    order = {"MatMul": (1, 0), "Gather": (0,)}.get(kind, (1,))
    return next((index for index in order if constant(node.inputs[index]) is not None), None)
