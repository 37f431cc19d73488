"""The pass that takes whole blocks out of a graph: those whose output is most like their input."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from ...compiler.core.cost import model_size
from ...compiler.core.drift import LOSSY, Drift
from ...compiler.core.errors import BudgetError, UsageError
from ...compiler.core.graph import clone_model, constant, is_op, make_constant, replace, sweep
from ...compiler.core.names import Names
from ...compiler.core.passes import Context, Pass
from ...compiler.core.shapes import dims_of, settle_shapes
from ...compiler.core.sites import all_sites
from ...compiler.core.statistics import Calibrator

__all__ = ["Block", "DropBlocks", "drop_block", "find_blocks"]

SCORES = ("similarity", "chance")
TINY = 1e-12


@dataclass(frozen=True)
class Block:
    """A residual: ``total`` is the sum of ``source`` and of what is computed from it and read by nothing else. Without the block it is ``source``."""

    source: ir.Value
    total: ir.Value

    @property
    def name(self) -> str:
        """That of the sum."""
        return self.total.name or ""


@dataclass(frozen=True)
class DropBlocks(Pass):
    """Takes residual blocks out until ``ratio`` of the FLOPs are gone, as nearly as whole blocks allow.

    ``score`` says which go first: "similarity" those whose output has the greatest cosine with their input on calibration data (Men et al., "ShortGPT:
    Layers in Large Language Models are More Redundant Than You Expect", 2024, equation 1, here for each residual by itself), "chance" any, by ``seed``.
    Blocks are found by their sums; no architecture is known by name. ``keep`` names blocks that stay.
    """

    name: ClassVar[str] = "drop-blocks"
    drift: ClassVar[Drift] = LOSSY
    whole: ClassVar[bool] = True

    ratio: float = 0.2
    score: str = "similarity"
    seed: int = 0
    keep: tuple[str, ...] = ()

    def run(self, model: ir.Model, context: Context) -> int:
        """Returns how many blocks went. Raises UsageError for options that do not exist, or similarity without calibration data, BudgetError when the
        smallest block is more than twice what was asked for.
        """
        if self.score not in SCORES or not 0 < self.ratio < 1:
            raise UsageError(f"drop-blocks takes a ratio between 0 and 1, and as score one of {', '.join(SCORES)}")
        settle_shapes(model)
        blocks = [block for block in find_blocks(model) if block.name not in self.keep and context.ledger.permit(self.name, block.name)]
        if not blocks:
            context.coverage.complete(all_sites(model), "there is no sum of a value and of what is computed from it")
            return 0
        ranked = [blocks[place].name for place in np.argsort(self._missed(model, blocks, context), kind="stable")]
        gone, without = _cheapest(model, ranked, model_size(model).flops, self.ratio), clone_model(model)
        for name in gone:
            drop_block(without, name)
        left = {site.name for site in all_sites(without)}
        for site in all_sites(model):
            if site.name in left:
                context.coverage.leave(site, "it has no part in the blocks that went")
            else:
                context.coverage.take(site, "dropped", 0.0, self.score)
        for name in gone:
            drop_block(model, name)
        return len(gone)

    def _missed(self, model: ir.Model, blocks: Sequence[Block], context: Context) -> np.ndarray:
        if self.score == "chance":
            return np.random.default_rng(self.seed).random(len(blocks))
        if context.calibrator is None:
            raise UsageError("similarity needs calibration data: --calibration FILE, or --calibration random, which says less")
        return influence(model, blocks, context.calibrator)


def find_blocks(model: ir.Model) -> Iterator[Block]:
    """Every residual of the main graph, in its order."""
    places = {node: place for place, node in enumerate(model.graph)}
    for node in model.graph:
        if not is_op(node, "Add") or any(value is None or constant(value) is not None for value in node.inputs):
            continue
        one, other = node.inputs
        assert one is not None and other is not None
        if dims_of(node.outputs[0]) is None or not dims_of(one) == dims_of(other) == dims_of(node.outputs[0]):
            continue
        for source, branch in ((one, other), (other, one)):
            if len(branch.uses()) == 1 and not branch.is_graph_output() and _depends(branch, source, places):
                yield Block(source, node.outputs[0])
                break


def influence(model: ir.Model, blocks: Sequence[Block], calibrator: Calibrator) -> np.ndarray:
    """1 - E cos(source, total) of each block, over its channels (the last axis, or the second of images); what cannot be observed is as large as can be."""
    twin = clone_model(model)
    values = {value.name: value for node in twin.graph for value in node.outputs} | {value.name: value for value in twin.graph.inputs}
    names = Names(twin)
    seen = {_cosine(twin, values[block.source.name], values[block.name], names): place for place, block in enumerate(blocks)}
    found = np.full(len(blocks), 2.0)
    for name, mean in calibrator.means(twin, list(seen)):
        if np.isfinite(mean).all():
            found[seen[name]] = 1.0 - float(np.mean(mean))
    return found


def _depends(value: ir.Value, source: ir.Value, places: dict[ir.Node, int]) -> bool:
    """Whether ``value`` is computed from ``source``."""
    maker = source.producer()
    first = places.get(maker, -1) if maker is not None else -1
    waiting, done = [value], {value}
    while waiting:
        node = waiting.pop().producer()
        if node is None or places.get(node, -1) <= first:
            continue
        for item in node.inputs:
            if item is source:
                return True
            if item is not None and item not in done:
                done.add(item)
                waiting.append(item)
    return False


def _cosine(model: ir.Model, one: ir.Value, other: ir.Value, names: Names) -> str:
    """Add what computes the cosine along the channels; returns its name."""
    graph = model.graph
    axis = make_constant(graph, np.array([-1 if len(dims_of(one) or ()) < 4 else 1], np.int64), names.fresh("channels"))
    dtype = one.dtype.numpy() if one.dtype is not None else np.dtype(np.float32)
    least = make_constant(graph, np.array(TINY if dtype.itemsize > 2 else 1e-6, dtype), names.fresh("least"))

    def made(op: str, *inputs: ir.Value) -> ir.Value:
        node = ir.Node("", op, list(inputs), name=names.fresh(f"{other.name}_{op}"))
        node.outputs[0].name, node.outputs[0].type = names.fresh(f"{other.name}_{op}_seen"), one.type
        graph.append(node)
        return node.outputs[0]

    inner, left, right = (made("ReduceSum", made("Mul", a, b), axis) for a, b in ((one, other), (one, one), (other, other)))
    return made("Div", inner, made("Max", made("Mul", made("Sqrt", left), made("Sqrt", right)), least)).name or ""


def _cheapest(model: ir.Model, names: Sequence[str], before: int, ratio: float) -> list[str]:
    """The first of these blocks, so many that what goes is nearest to ``ratio`` of the arithmetic."""
    twin, chosen, missing = clone_model(model), list[str](), ratio
    for name in names:
        drop_block(twin, name)
        left = 1 - model_size(twin).flops / max(before, 1)
        if abs(ratio - left) > missing:
            break
        chosen.append(name)
        missing = abs(ratio - left)
    if not chosen:
        raise BudgetError(f"{ratio:.1%} of the flops was to go, but the block that is missed least ('{names[0]}') is {left:.1%}. Nothing was written.")
    return chosen


def drop_block(model: ir.Model, name: str) -> None:
    """Let what reads the sum read its source, and remove what nothing reads any more. A block whose sum is already gone is no more there."""
    block = next((block for block in find_blocks(model) if block.name == name), None)
    if block is None:
        return
    replace(block.total, block.source, Names(model))
    sweep(reversed(list(model.graph)))
