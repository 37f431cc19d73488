"""Methods that round the weights of several sites together, looking at what the graph between them makes of it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import onnx_ir as ir

from ...compiler.core.modules import classes_below, find_class
from ...compiler.core.sites import Site
from ...compiler.core.statistics import Calibrator
from ..differentiable.graph import TorchGraph
from ..differentiable.samples import samples_of
from .coded import Coded
from .grid import Grid

if TYPE_CHECKING:
    import torch

__all__ = ["BlockMethod", "Stretch", "block_methods", "cut", "find_block_method", "samples_of"]


@dataclass(frozen=True)
class BlockMethod:
    """One way of rounding several weights together; its fields are its settings. ``refines`` is the method it has to beat. Needs torch."""

    name: ClassVar[str]
    refines: ClassVar[str]

    def quantize(self, model: ir.Model, sites: Sequence[Site], calibrator: Calibrator, grid_of: Callable[[Site], Grid]) -> Iterator[tuple[Site, list[Coded]]]:
        """Each of these sites of ``model``, in graph order, with what the weight of each of its groups becomes on its grid. The model is not changed.

        Left out are embeddings, sites inside branches and loops, and those whose weight is not finite or something else reads too. Raises BackendMissing
        without torch, TargetError naming an operator that cannot be differentiated.
        """
        raise TypeError(f"{type(self).__name__} has no quantize")


@functools.cache
def block_methods() -> dict[str, type[BlockMethod]]:
    """Every such method by name, from every module below ``passes/quantize``."""
    return dict(sorted(classes_below("passes.quantize", BlockMethod).items()))


def find_block_method(name: str) -> type[BlockMethod]:
    """One by name. Raises UsageError when there is none."""
    return find_class(name, block_methods(), "method {} for several sites together")


@dataclass(frozen=True)
class Stretch:
    """The nodes from one site up to the next (the first: up to the first site). ``later`` names the values that nodes behind it, or the caller, still read."""

    graph: TorchGraph
    site: Site | None
    later: frozenset[str]

    def run(self, values: dict[str, torch.Tensor], constants: dict[str, torch.Tensor] | None = None) -> dict[str, torch.Tensor]:
        """The values that are still needed after this stretch, given those needed before it."""
        found = {**values, **self.graph.run(values, constants)}
        return {name: tensor for name, tensor in found.items() if name in self.later}


def cut(model: ir.Model, sites: Sequence[Site]) -> list[Stretch]:
    """The main graph as stretches, one for each site in it whose weight nothing else reads, and one in front. Graph order is the order of the nodes."""
    nodes = list(model.graph)
    by_node = {site.node: site for site in sites if site.node.graph is model.graph and len(site.weight.uses()) == 1}
    starts = [place for place, node in enumerate(nodes) if node in by_node]
    needed = {value.name or "" for value in model.graph.outputs}
    stretches: list[Stretch] = []
    for start, end in reversed(list(zip([0, *starts], [*starts, len(nodes)], strict=True))):
        part = nodes[start:end]
        made = [value for node in part for value in node.outputs if value.name in needed]
        stretches.append(Stretch(TorchGraph(part, made), by_node.get(part[0]) if part else None, frozenset(needed)))
        needed |= {value.name or "" for node in part for value in node.inputs if value is not None}
    return stretches[::-1]
