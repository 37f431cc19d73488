"""The pass that merges layers into the ones before them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from ...compiler.core.cost import model_size
from ...compiler.core.drift import LOSSY, Drift
from ...compiler.core.errors import BudgetError, UsageError
from ...compiler.core.graph import clone_model, constant
from ...compiler.core.passes import Context, Pass
from ...compiler.core.shapes import settle_shapes
from ...compiler.core.sites import all_sites
from ...compiler.core.statistics import Calibrator
from .depth import Block, drop_block, find_blocks

__all__ = ["LaCo", "Layer", "find_layers", "merge"]

SAMPLES = 8
"""So many calibration samples tell how alike the answers are."""
MOST = 3
"""So many layers are merged into one at most, in one step."""
LONGEST = 4
"""Residuals of one layer."""
Layer = tuple[Block, ...]
"""The residuals of one layer, in order."""


@dataclass(frozen=True)
class LaCo(Pass):
    """Merges layers into the one before them until ``ratio`` of the FLOPs are gone, as nearly as whole layers allow (Yang et al., "LaCo: Large Language Model
    Pruning via Layer Collapse", 2024).

    Layer l becomes ``W_l + sum_k (W_(l+k) - W_l)`` for the k layers behind it, which go (equation 1). The paper takes the first merge from the top whose
    answers are alike enough; here each step takes the one whose answers have the greatest cosine with the original's, for each layer that goes.
    Layers are residuals of the same operators and weights' shapes that follow each other; no architecture is known by name.
    """

    name: ClassVar[str] = "laco"
    drift: ClassVar[Drift] = LOSSY
    whole: ClassVar[bool] = True

    ratio: float = 0.2

    def run(self, model: ir.Model, context: Context) -> int:
        """Returns how many layers went. Raises UsageError for a ratio that is none, or without calibration data, BudgetError when a single layer is more than
        twice what was asked for.
        """
        if not 0 < self.ratio < 1:
            raise UsageError("laco takes a ratio between 0 and 1")
        if context.calibrator is None:
            raise UsageError("laco needs calibration data: --calibration FILE, or --calibration random, which says less")
        settle_shapes(model)
        layers = find_layers(model)
        if not layers or not context.ledger.permit(self.name, layers[0][0].name):
            context.coverage.complete(all_sites(model), "there are no layers that are alike")
            return 0
        count = _layers_of(model, layers, self.ratio)
        merges = list(_chosen(model, count, context.calibrator))
        without = clone_model(model)
        for place, more in merges:
            merge(without, place, more)
        left = {site.name for site in all_sites(without)}
        for site in all_sites(model):
            if site.name in left:
                context.coverage.leave(site, "it is of no layer that went")
            else:
                context.coverage.take(site, "merged", 0.0, self.name)
        for place, more in merges:
            merge(model, place, more)
        for place, more in merges:
            context.notes.append(f"laco merged {more} layer{'s' if more > 1 else ''} into layer {place + 1} of those that were left")
        return count


def find_layers(model: ir.Model) -> list[Layer]:
    """The longest run of layers that are alike, each of as few residuals as possible; [] where there are no two."""
    blocks = list(find_blocks(model))
    forms = [_form(model, block) for block in blocks]
    best: list[Layer] = []
    for period in range(1, LONGEST + 1):
        for start in range(len(blocks)):
            end = start + period
            while end < len(blocks) and forms[end] == forms[end - period]:
                end += 1
            count = (end - start) // period
            if count > 1 and count * period > sum(map(len, best)):
                best = [tuple(blocks[start + place * period : start + (place + 1) * period]) for place in range(count)]
    return best


def merge(model: ir.Model, place: int, more: int) -> None:
    """Merge ``more`` layers into the one at ``place``, in place. Weights that are read elsewhere, too, stay as they are."""
    layers = find_layers(model)
    kept = [value for block in layers[place] for value in weights_of(model, block)]
    others = [[value for block in layer for value in weights_of(model, block)] for layer in layers[place + 1 : place + 1 + more]]
    for index, value in enumerate(kept):
        tensors = [constant(item) for item in (value, *(other[index] for other in others))]
        if len(value.uses()) != 1 or any(tensor is None for tensor in tensors):
            continue
        first, *rest = (tensor.numpy() for tensor in tensors if tensor is not None)
        merged = first.astype(np.float64) + sum(content.astype(np.float64) - first for content in rest)
        value.const_value = ir.tensor(merged.astype(first.dtype), dtype=value.dtype, name=value.name)
    for layer in layers[place + 1 : place + 1 + more]:
        for block in layer:
            drop_block(model, block.name)


def weights_of(model: ir.Model, block: Block) -> list[ir.Value]:
    """The constants of floating-point numbers that the operators between the source and the sum of a residual read, in their order."""
    return [
        value
        for node in _inside(model, block)
        for value in node.inputs
        if value is not None and value.is_initializer() and value.dtype is not None and value.dtype.is_floating_point() and constant(value) is not None
        and constant(value).size > 1  # type: ignore[union-attr]
    ]  # fmt: skip


def _inside(model: ir.Model, block: Block) -> list[ir.Node]:
    """The operators that compute the sum from the source."""
    reached: set[ir.Value] = {block.source}
    forward = []
    last = block.total.producer()
    for node in model.graph:
        if any(value in reached for value in node.inputs):
            reached.update(node.outputs)
            forward.append(node)
        if node is last:
            break
    needed: set[ir.Value] = {block.total}
    found = []
    for node in reversed(forward):
        if any(value in needed for value in node.outputs):
            needed.update(value for value in node.inputs if value is not None and value is not block.source)
            found.append(node)
    return found[::-1]


def _form(model: ir.Model, block: Block) -> object:
    operators = tuple(node.op_type for node in _inside(model, block))
    return operators, tuple(tuple(value.shape.numpy()) if value.shape is not None else () for value in weights_of(model, block))


def _layers_of(model: ir.Model, layers: Sequence[Layer], ratio: float) -> int:
    """How many layers are ``ratio`` of the arithmetic, but for one."""
    without = clone_model(model)
    for block in layers[-1]:
        drop_block(without, block.name)
    each = 1 - model_size(without).flops / max(model_size(model).flops, 1)
    count = min(round(ratio / each), len(layers) - 1) if each > 0 else 0
    if count < 1:
        raise BudgetError(f"{ratio:.1%} of the flops was to go, but one layer is {each:.1%}. Nothing was written.")
    return count


def _chosen(model: ir.Model, count: int, calibrator: Calibrator) -> Iterator[tuple[int, int]]:
    """So many layers merged, step by step: into which of those that are left, and how many."""
    twin = clone_model(model)
    truth = list(calibrator.outputs(twin, SAMPLES))
    while count:
        layers = len(find_layers(twin))
        tried = [(place, more) for place in range(layers - 1) for more in range(1, min(MOST, count, layers - 1 - place) + 1)]
        place, more = min(tried, key=lambda one: _unlike(twin, one[0], one[1], truth, calibrator) / one[1])
        yield place, more
        merge(twin, place, more)
        count -= more


def _unlike(model: ir.Model, place: int, more: int, truth: Sequence[dict], calibrator: Calibrator) -> float:
    """1 - the mean cosine of the answers after a merge with those before all merges, along the last axis."""
    twin = clone_model(model)
    merge(twin, place, more)
    cosines = []
    for before, after in zip(truth, calibrator.outputs(twin, SAMPLES), strict=True):
        for name, old in before.items():
            new = after[name]
            if isinstance(old, np.ndarray) and isinstance(new, np.ndarray) and old.dtype.kind == "f" and old.ndim and old.size:
                one, other = old.astype(np.float64), new.astype(np.float64)
                norms = np.linalg.norm(one, axis=-1) * np.linalg.norm(other, axis=-1)
                cosines.append(float(((one * other).sum(axis=-1) / np.maximum(norms, 1e-30)).mean()))
    return 1 - float(np.mean(cosines)) if np.isfinite(cosines).all() and cosines else 2.0
