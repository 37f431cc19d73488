"""CBQ (Ding et al., "Cross-Block Quantization for Large Language Models", ICLR 2025): neighbouring sites are rounded so as to make good for each other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import onnx_ir as ir

from ...compiler.core.errors import UsageError
from ...compiler.core.sites import Site
from ...compiler.core.statistics import Calibrator
from ..differentiable.torch_there import device, need_torch
from .blocks import BlockMethod, Stretch, cut, samples_of
from .coded import Affine, Coded
from .fake_weight import fake_weight
from .grid import Grid
from .learned_range import WeightRange
from .method import find_method
from .steps import Steps, spread_rows

if TYPE_CHECKING:
    import torch

    Values = dict[str, torch.Tensor]

__all__ = ["Cbq", "Course", "LearnedWeight"]

NARROWEST, WIDEST = 0.05, 1.2
PAST = 0.05
"""How far beyond the boundary between two codes an offset starts."""
REACH = 0.6
SLOWER = 0.3
"""Ranges move by this share of the step of an offset: one of them moves many weights."""
CHECKS = 4
"""How often, on the way, a window is judged on the samples that it does not learn from."""


@dataclass(frozen=True)
class Cbq(BlockMethod):
    """A window of ``window`` sites slides over the graph by ``stride`` sites at a time; in it, offsets before rounding and the ends of the ranges are learned.

    What is minimised is the difference between all that the window hands on and what it hands on in the original model, its inputs coming from the sites
    already rounded (the paper's cross-block dependency). Each site starts from what ``start`` makes of it alone. Offsets and ranges go against the sign of
    the gradient with a falling step; the paper learns a low-rank offset with Adam. What is best on the samples that are
    not learned from is kept, be it the start.
    """

    name: ClassVar[str] = "cbq"
    refines: ClassVar[str] = "signround"

    window: int = 8
    stride: int = 4
    iterations: int = 80
    batch: int = 4
    rate: float = 0.008
    start: str = "signround"
    samples: int = 32
    seed: int = 0

    def quantize(self, model: ir.Model, sites: Sequence[Site], calibrator: Calibrator, grid_of: Callable[[Site], Grid]) -> Iterator[tuple[Site, list[Coded]]]:
        """As `BlockMethod.quantize`. Raises UsageError for a ``start`` that is no method."""
        need_torch("the method cbq")
        method = find_method(self.start)()
        stretches = cut(model, [site for site in sites if site.kind != "Gather" and np.isfinite(site.matrices()).all()])
        course = Course(samples_of(calibrator, model, self.samples), self.seed)
        course.go_on(stretches[:1], [None])
        order = [stretch.site for stretch in stretches if stretch.site is not None]
        known = calibrator.sites(model, order, moments=type(method).moments, rows=type(method).rows)
        found = next(known, None)
        window: list[tuple[Stretch, LearnedWeight | None]] = []
        for place, stretch in enumerate(stretches[1:], 2):
            weight = None
            if found is not None and found[0] is stretch.site:
                grid = grid_of(found[0])
                coded = [method.quantize(part, statistics, grid) for part, statistics in zip(found[0].matrices(), found[1], strict=True)]
                weight = LearnedWeight(found[0], coded, grid, course.where)
                found = next(known, None)
            window.append((stretch, weight))
            last = place == len(stretches)
            if len(window) < self.window and not last:
                continue
            course.learn(self, *_columns(window))
            ready = len(window) if last else max(1, min(self.stride, self.window))
            course.go_on(*_columns(window[:ready]))
            yield from ((weight.site, weight.coded()) for _, weight in window[:ready] if weight is not None)
            window = window[ready:]


def _columns(window: list[tuple[Stretch, LearnedWeight | None]]) -> tuple[list[Stretch], list[LearnedWeight | None]]:
    return [stretch for stretch, _ in window], [weight for _, weight in window]


class Course:
    """The model as it is and the model with rounded weights, side by side at one place, on all samples."""

    def __init__(self, feeds: list[dict[str, np.ndarray]], seed: int) -> None:
        import torch

        self.where = device()
        self._true: list[Values] = [{name: torch.from_numpy(np.ascontiguousarray(item)).to(self.where) for name, item in feed.items()} for feed in feeds]
        self._rounded = list(self._true)
        self._random = np.random.default_rng(seed)

    def go_on(self, stretches: list[Stretch], weights: list[LearnedWeight | None]) -> None:
        """Past these stretches."""
        import torch

        with torch.no_grad():
            for stretch, weight in zip(stretches, weights, strict=True):
                constants = {} if weight is None else weight.constants()
                self._true = [stretch.run(values) for values in self._true]
                self._rounded = [stretch.run(values, constants) for values in self._rounded]

    def learn(self, how: Cbq, stretches: list[Stretch], weights: list[LearnedWeight | None]) -> None:
        """Learn the weights of a window, if that makes it better on every fourth sample, which is not learned from."""
        import torch

        learned = [weight for weight in weights if weight is not None]
        if not learned:
            return
        with torch.no_grad():
            wanted = [_run(stretches, values, weights=None) for values in self._true]
        places = np.arange(len(wanted))
        judged, seen = places[places % 4 == 3], places[places % 4 != 3]
        judged = judged if len(judged) else seen

        def error(place: int) -> torch.Tensor:
            return _difference(_run(stretches, self._rounded[place], weights), wanted[place], self._rounded[place])

        def judge() -> float:
            with torch.no_grad():
                return sum(float(error(place)) for place in judged)

        least, best = judge(), [weight.content() for weight in learned]
        tensors = [tensor for weight in learned for tensor in weight.tensors()]
        for step in range(1, how.iterations + 1):
            loss = torch.stack([error(int(place)) for place in self._random.choice(seen, min(how.batch, len(seen)), replace=False)]).sum()
            slopes = torch.autograd.grad(loss, tensors, allow_unused=True)
            pace = how.rate * (1.0 - (step - 1) / how.iterations)
            for weight in learned:
                weight.step(dict(zip(map(id, tensors), slopes, strict=True)), pace)
            if step % max(1, how.iterations // CHECKS) and step != how.iterations:
                continue
            found = judge()
            if found < least:
                least, best = found, [weight.content() for weight in learned]
        for weight, content in zip(learned, best, strict=True):
            weight.restore(content)


def _run(stretches: list[Stretch], values: Values, weights: list[LearnedWeight | None] | None) -> Values:
    for place, stretch in enumerate(stretches):
        weight = None if weights is None else weights[place]
        values = stretch.run(values, None if weight is None else weight.constants())
    return values


def _difference(found: Values, wanted: Values, given: Values) -> torch.Tensor:
    """The relative squared error of everything that was made on the way, added up; what is not finite in the original model is left out."""
    import torch

    total = torch.zeros((), device=next(iter(wanted.values())).device)
    for name, tensor in wanted.items():
        if name in given or not tensor.is_floating_point() or not bool(torch.isfinite(tensor).all()):
            continue
        total = total + (found[name] - tensor).square().sum() / tensor.square().sum().clamp(min=1e-20)
    return total


class LearnedWeight:
    """The weight of a site, its offsets and the ends of its ranges learned on from where another method stopped."""

    def __init__(self, site: Site, coded: Sequence[Coded], grid: Grid, where: str) -> None:
        import torch

        self.site, self._grid = site, grid
        self._ranges = [WeightRange.of(part, grid) for part in site.matrices()]
        starts = [_start(part, found) for part, found in zip(self._ranges, coded, strict=True)]
        self._shares = [torch.tensor(shares, device=where, requires_grad=True) for shares, _ in starts]
        self._offsets = [torch.tensor(offset, device=where, requires_grad=True) for _, offset in starts]
        self._limits = [offset.detach().abs().clamp(min=REACH) for offset in self._offsets]
        self._weights = [torch.tensor(part.weight, device=where) for part in self._ranges]
        self._ends = [torch.tensor(part.extremes, device=where) for part in self._ranges]

    def tensors(self) -> list[torch.Tensor]:
        """What is learned."""
        return [*self._shares, *self._offsets]

    def constants(self) -> Values:
        """The rounded weight by the name of the constant, as it is stored."""
        import torch

        groups = zip(self._weights, self._shares, self._ends, self._offsets, strict=True)
        rounded = torch.stack([
            fake_weight(weight, shares[0] * ends[0].clamp(max=0.0), shares[1] * ends[1].clamp(min=0.0), self._grid, offset)
            for weight, shares, ends, offset in groups
        ])  # fmt: skip
        return {self.site.weight.name or "": _stored(rounded, self.site)}

    def step(self, slopes: dict[int, torch.Tensor | None], pace: float) -> None:
        """A step of length ``pace`` against the sign of each slope, given by the id of its tensor."""
        import torch

        with torch.no_grad():
            for shares, offset, limit in zip(self._shares, self._offsets, self._limits, strict=True):
                along, across = slopes[id(shares)], slopes[id(offset)]
                if across is not None:
                    offset -= pace * across.sign()
                    offset.copy_(offset.maximum(-limit).minimum(limit))
                if along is not None:
                    along = along.sum(0, keepdim=True) if self._grid.symmetric else along
                    shares.sub_(SLOWER * pace * along.sign()).clamp_(NARROWEST, WIDEST)

    def content(self) -> list[torch.Tensor]:
        """A copy of what is learned."""
        return [tensor.detach().clone() for tensor in self.tensors()]

    def restore(self, content: list[torch.Tensor]) -> None:
        """Take back an earlier `content`."""
        import torch

        with torch.no_grad():
            for tensor, old in zip(self.tensors(), content, strict=True):
                tensor.copy_(old)

    def coded(self) -> list[Coded]:
        """The weight of each group as it is now."""
        learned = zip(self._ranges, self._shares, self._offsets, strict=True)
        return [part.trial(shares.detach().cpu().numpy(), offset.detach().cpu().numpy()).coded for part, shares, offset in learned]


def _start(part: WeightRange, coded: Coded) -> tuple[np.ndarray, np.ndarray]:
    """The shares [2, G, M] and the offsets [K, M] that give a coded weight: for the nearest code none, else to just past the boundary. Raises UsageError."""
    if not isinstance(coded, Affine):
        raise UsageError("cbq can go on only from a method that gives codes on uniform steps, as signround, gptq and rtn do")
    grid, rows = part.grid, len(part.weight)
    shares = part.shares_of(Steps(grid, coded.scales, coded.zeros))
    near = part.trial(shares)
    zeros = np.float32(0) if coded.zeros is None else spread_rows(coded.zeros, grid.block, rows)
    place = part.weight / spread_rows(near.steps.scales, grid.block, rows) + zeros
    away = np.sign(coded.codes - near.codes)
    offset = np.where(away == 0, 0.0, coded.codes - (0.5 - PAST) * away - place)
    return shares.astype(np.float32), offset.astype(np.float32)


def _stored(matrices: torch.Tensor, site: Site) -> torch.Tensor:
    """`sites.fold_matrices` in torch."""
    if site.kind == "Conv":
        return matrices.permute(0, 2, 1).reshape(site.shape)
    if site.kind == "ConvTranspose":
        return matrices.reshape(site.shape)
    return matrices[0].T if site.flipped else matrices[0]
