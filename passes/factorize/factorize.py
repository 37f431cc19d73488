"""The pass that writes weights as products of smaller ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from ...compiler.core.drift import LOSSY, Drift
from ...compiler.core.errors import ModelError, UsageError
from ...compiler.core.graph import all_graphs, attribute, constant, is_op
from ...compiler.core.passes import Context, Pass
from ...compiler.core.reasons import Skip, skip
from ...compiler.core.sites import Site
from ..cleanup.duplicates import DeduplicateInitialisers
from ..quantize.choosing import chosen_sites
from ..quantize.surgery import Surgery
from ..quantize.tied import untie
from .allocation import ALLOCATIONS, ENERGY, LEARNED, MEASURED, UNIFORM, Allocator
from .compose import Product
from .forming import Former, Room, refusal_of
from .method import KernelMethod, LowRank, Method, SharingMethod, find_method
from .sharing import shared_products
from .subjects import Subject, subjects_of, with_statistics
from .tucker import Tucker

__all__ = ["Factorize"]

PARAMETERS, FLOPS = "parameters", "flops"
USUAL = 0.3
VARIATIONAL = "vbmf"
NO_KERNEL = skip("without sparse kernels its factors take as much arithmetic as it does, and only the file would be smaller: ask for the size")


@dataclass(frozen=True)
class Factorize(Pass):
    """Replaces products, convolutions (and ``embeddings``) by two or more that have fewer numbers.

    How many: ``ratio`` is the share of the sites' numbers (``of`` "flops": of their arithmetic) that goes; or every site gets this ``rank`` (a ratio from 1 on
    is one, too); or each keeps this share of the ``energy`` of its outputs (of its weight, without calibration data).
    ``allocation`` says how a ratio is spread: "uniform", the same for each site; "energy", where least of it is lost; "measured", where the model's outputs
    mind it least when a site is factorised alone (usual, with calibration data); "learned", by descending on the outputs (`dobi_svd`); "vbmf" leaves
    tucker's ranks to variational Bayes.
    ``method`` is one of `method.methods` (none: "svd_llm" with calibration data, "svd" without). A rank is a ``multiple``. Without ``small`` a site stays
    as it is where its factors are not measured to be faster. ``only`` names the sites to factorise (none: all), ``keep`` those that stay.
    """

    name: ClassVar[str] = "factorize"
    drift: ClassVar[Drift] = LOSSY

    ratio: float = USUAL
    rank: int = 0
    energy: float = 0.0
    method: str = ""
    of: str = PARAMETERS
    allocation: str = ""
    multiple: int = 1
    small: bool = False
    embeddings: bool = False
    only: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()

    def run(self, model: ir.Model, context: Context) -> int:
        """Replace what can be; returns how many sites were. Raises UsageError for an option that does not exist, or does not go with the method."""
        if self.ratio >= 1:
            return dataclasses.replace(self, ratio=USUAL, rank=round(self.ratio)).run(model, context)
        method = self._method(context)
        surgery = Surgery(model, context, self.name)
        tied = untie(model)
        _note_turned(model, context)
        subjects = subjects_of(self._suited(chosen_sites(model, context, self.only, self.keep, self.embeddings), method, context), context, self.small)
        changes = 0
        for subject, product in self._products(model, subjects, method, context):
            if isinstance(product, Skip):
                for site in subject.sites:
                    context.coverage.leave(site, str(product))
            else:
                changes += self._put(surgery, subject, product, method)
        surgery.finish()
        tied.restore()
        if isinstance(method, SharingMethod):
            DeduplicateInitialisers().run(model, context)
        return changes

    def _method(self, context: Context) -> Method:
        if not 0 < self.ratio < 1 or self.rank < 0 or not 0 <= self.energy < 1 or self.multiple < 1:
            raise UsageError("factorize takes a ratio between 0 and 1, or a rank from 1 on, or an energy below 1, and a multiple from 1 on")
        if self.of not in (PARAMETERS, FLOPS):
            raise UsageError(f"factorize takes its ratio of {PARAMETERS} or {FLOPS}, not of '{self.of}'")
        method = find_method(self.method or ("svd_llm" if context.calibrator is not None else "svd"))()
        if method.calibrated() and context.calibrator is None:
            raise UsageError(f"{method.name} needs calibration data: --calibration FILE, or --calibration random, which says less")
        self._check_allocation(method, context)
        return method

    def _check_allocation(self, method: Method, context: Context) -> None:
        if self.allocation == VARIATIONAL:
            if not isinstance(method, Tucker):
                raise UsageError("variational Bayes finds the ranks of tucker alone")
            return
        if self.allocation not in ("", *ALLOCATIONS):
            raise UsageError(f"there is no allocation '{self.allocation}'; there are: {', '.join((*ALLOCATIONS, VARIATIONAL))}")
        if self.allocation not in ("", UNIFORM) and (not isinstance(method, LowRank) or self.rank or self.energy):
            raise UsageError(f"the allocation '{self.allocation}' spreads a ratio over decompositions: leave it out with {method.name}, a rank or an energy")
        if self.allocation not in ("", UNIFORM, ENERGY) and context.calibrator is None:
            raise UsageError(f"the allocation '{self.allocation}' needs calibration data: --calibration FILE, or --calibration random, which says less")
        if self.energy and not isinstance(method, LowRank | KernelMethod):
            raise UsageError(f"{method.name} has no energy to keep a share of: give a ratio")
        if self.rank and isinstance(method, SharingMethod):
            raise UsageError(f"{method.name} finds its ranks for several weights together: give a ratio")

    def _suited(self, sites: Sequence[Site], method: Method, context: Context) -> list[Site]:
        """The sites that the method is for; coverage is told of the others."""
        found = []
        for site in sites:
            why = refusal_of(site, method)
            if why is None:
                found.append(site)
            else:
                context.coverage.leave(site, why)
        return found

    def _spread(self, method: Method, context: Context) -> str:
        """How a ratio is spread: as asked, or as well as can be told."""
        if self.allocation:
            return self.allocation
        if not isinstance(method, LowRank) or context.calibrator is None or self.rank or self.energy:
            return UNIFORM
        return LEARNED if method.learned else MEASURED

    def _products(self, model: ir.Model, subjects: Sequence[Subject], method: Method, context: Context) -> Iterator[tuple[Subject, Product | Skip]]:
        """Each subject with what it becomes, or why nothing."""
        if isinstance(method, SharingMethod):
            yield from shared_products(model, subjects, method, 1 - self.ratio, context)
            return
        informed = isinstance(method, KernelMethod)
        wanted, moments = method.calibrated() or informed, method.moments or informed
        ranks: dict[str, int | None] = {}
        allocation = self._spread(method, context)
        if isinstance(method, LowRank) and allocation != UNIFORM:
            known = with_statistics(model, subjects, context, moments, wanted)
            ranks = Allocator(model, method, context, self.of == FLOPS).ranks(known, 1 - self.ratio, allocation)
        former = Former(method, Room(1 - self.ratio, self.rank, self.energy, self.multiple, self.allocation == VARIATIONAL), ranks)
        for subject, statistics in with_statistics(model, subjects, context, moments, wanted):
            try:
                yield subject, former.product(subject, statistics)
            except ModelError as error:
                yield subject, skip("%s", error)

    def _put(self, surgery: Surgery, subject: Subject, product: Product, method: Method) -> int:
        """Put a product in the place of each site of a subject; returns how many took it."""
        coverage, done = surgery.context.coverage, 0
        for site in subject.sites:
            made = product.at(site)
            if not isinstance(made, Skip) and not self.small:
                way = NO_KERNEL if method.size_only else surgery.fastest(made.place, [made.way], must_gain=True)
                made = way if isinstance(way, Skip) else made
            if isinstance(made, Skip):
                coverage.leave(site, str(made))
            else:
                weight = site.weight
                done += surgery.replace(made.place, made.way, method.name) is None
                _forget(weight)
        return done


def _forget(weight: ir.Value) -> None:
    """Take away a weight that nobody reads any more: what is left of the model is counted after this pass."""
    if weight.is_initializer() and not weight.uses() and not weight.is_graph_output() and not weight.is_graph_input() and weight.graph is not None:
        del weight.graph.initializers[weight.name or ""]


def _note_turned(model: ir.Model, context: Context) -> None:
    """Tell coverage of products that are no sites because they turn their input over."""
    for graph in all_graphs(model):
        for node in graph:
            if is_op(node, "Gemm") and attribute(node, "transA", 0) and constant(node.inputs[1]) is not None and constant(node.inputs[0]) is None:
                context.coverage.leave(node, "it turns its input over (transA): a Transpose in front of it would make it a site")
