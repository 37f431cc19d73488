"""How a ratio is spread over the weights of a model."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from ...compiler.core.errors import ModelError
from ...compiler.core.graph import clone_model, make_constant
from ...compiler.core.names import Names
from ...compiler.core.passes import Context
from ...compiler.core.sites import Site, all_sites, fold_matrices
from ...compiler.core.statistics import SiteStatistics
from ..quantize.output_error import output_error
from .dobi_svd import Spot, learn_ranks
from .forming import decomposition_of
from .method import Decomposition, LowRank
from .ranks import Curve, spend
from .subjects import Known, Subject

__all__ = ["ALLOCATIONS", "ENERGY", "LEARNED", "MEASURED", "UNIFORM", "Allocator"]

UNIFORM, ENERGY, MEASURED, LEARNED = "uniform", "energy", "measured", "learned"
ALLOCATIONS = (UNIFORM, ENERGY, MEASURED, LEARNED)
FEW = 4
"""Samples that one site is measured on."""


@dataclass(frozen=True)
class Allocator:
    """Finds a rank for each weight of ``model``, whose decompositions are those of ``method``. ``arithmetic``: what is spent is time, not numbers."""

    model: ir.Model
    method: LowRank
    context: Context
    arithmetic: bool

    def ranks(self, known: Iterable[Known], share: float, allocation: str) -> dict[str, int | None]:
        """The rank of each subject, by its name, that together keep ``share`` of what all cost; None where a weight had better stay.

        "energy": the shares of their outputs' energies that weights lose are added up. "measured": each counts as much as the model's outputs (squared error
        by squared size, on some samples) mind it when that weight alone is at its uniform rank. "learned": see `learn_ranks`.
        """
        subjects, curves, spots = [], [], []
        truth = list(self._outputs(self.model)) if allocation == MEASURED else []
        for subject, statistics in known:
            try:
                parts = self._parts(subject, statistics)
            except ModelError:
                continue  # It is named when its turn comes.
            curve = self._curve(subject, parts)
            if allocation == MEASURED:
                curve = Curve(curve.lost, curve.unit, curve.whole, self._minded(subject, parts, share, truth))
            subjects.append(subject)
            curves.append(curve)
            if allocation == LEARNED:
                spots.append(Spot(subject.sites, parts[0], curve))
        budget = share * sum(curve.whole for curve in curves)
        if allocation == LEARNED:
            assert self.context.calibrator is not None
            found = learn_ranks(self.model, spots, budget, self.context.calibrator)
        else:
            found = spend(curves, budget)
        return {subject.name: rank for subject, rank in zip(subjects, found, strict=True)}

    def _parts(self, subject: Subject, statistics: list[SiteStatistics] | None) -> list[Decomposition]:
        matrices = subject.matrices()
        known = statistics if statistics is not None else [None] * len(matrices)
        return [decomposition_of(subject, self.method, matrix, one) for matrix, one in zip(matrices, known, strict=True)]

    def _curve(self, subject: Subject, parts: list[Decomposition]) -> Curve:
        groups, inputs, outputs = subject.matrices().shape
        repeats = subject.repeats if self.arithmetic else 1.0
        lost = np.mean([part.lost for part in parts], axis=0)
        return Curve(lost, repeats * groups * (inputs + outputs), repeats * groups * inputs * outputs)

    def _minded(self, subject: Subject, parts: list[Decomposition], share: float, truth: list) -> float:
        """What losing all of a weight's energy would cost the model's outputs, were it in proportion to what they lose now."""
        inputs, outputs = subject.matrices().shape[1:]
        rank = max(1, int(share * inputs * outputs / (inputs + outputs)))
        lost = float(np.mean([part.lost[min(rank, len(part.lost) - 1)] for part in parts]))
        twin = clone_model(self.model)
        mine = {site.name for site in subject.sites}
        for site in [site for site in all_sites(twin) if site.name in mine]:
            _put(twin, site, np.stack([part.cut(rank).matrix() for part in parts]))
        error = output_error(truth, self._outputs(twin))
        return error / lost if lost > 0 and np.isfinite(error) else 1.0

    def _outputs(self, model: ir.Model) -> Iterable[dict]:
        assert self.context.calibrator is not None
        return self.context.calibrator.outputs(model, FEW)


def _put(model: ir.Model, site: Site, matrices: np.ndarray) -> None:
    """Give a site a weight of its own."""
    graph = site.node.graph
    assert isinstance(graph, ir.Graph) and site.weight.dtype is not None
    content = fold_matrices(matrices, site).astype(site.weight.dtype.numpy())
    site.node.replace_input_with(site.weight_at, make_constant(graph, content, Names(model).fresh(f"{site.weight.name}_factorised")))
