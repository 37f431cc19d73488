"""The pass that trains a compressed model to answer as it did before."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from ...compiler.core.drift import LOSSY, Drift
from ...compiler.core.errors import InputError, NoChangeError, UsageError
from ...compiler.core.graph import clone_model, constant
from ...compiler.core.passes import Context, Pass
from ...compiler.core.shapes import settle_shapes
from ...compiler.core.sites import all_sites
from ..differentiable.graph import TorchGraph, known_operators
from ..differentiable.samples import stream_samples
from ..differentiable.torch_there import need_torch
from .batches import Kind, Samples, batchable, rows
from .distill import Aims, Teacher, part, run
from .kept import Kept
from .latent import Student
from .learnable import Learnable, learnables
from .losses.hidden import HIDDEN
from .losses.outputs import OUTPUTS
from .spool import Spool
from .training import Budget, Course, Training

__all__ = ["Recover"]

HELD = 10
"""One sample in so many is judged by."""
MOST_HELD = 512
"""Rows that are held out."""
SAMPLES_BYTES, ANSWERS_BYTES = 8 << 30, 8 << 30
AGREE = 1e-3
RECOVERED = "recovered"


@dataclass(frozen=True)
class Recover(Pass):
    """Distillation from the model before compression, on unlabelled calibration data, for ``minutes`` or ``steps``.

    ``outputs`` is how answers are compared (auto: scores of classes by divergence at a ``temperature`` and by error, other numbers by error and by
    how alike the rows of a batch are; kl, reverse-kl, mse, cosine), ``hidden`` how the values between blocks are (mse, cosine, cka, none);
    ``attention`` compares attention maps, ``relations`` those of the last attention. With a ``rank`` weights only learn differences of that rank, which
    are folded in afterwards. ``rate`` is the longest step as a part of the size of a weight's numbers, ``batch`` the rows of a step; ``tables`` lets
    embeddings learn too. Zeros of a weight stay zeros. Quantised weights, their scales and those of activations learn as in LSQ.
    With a file to ``keep`` it in, training that was stopped goes on from there when the same is run again.

    A tenth of the samples is held out: the state that answers best there stays, and nothing changes if that is the first. Raises UsageError without
    calibration data or a budget, NoChangeError when there is nothing to learn.
    """

    name: ClassVar[str] = "recover"
    drift: ClassVar[Drift] = LOSSY
    whole: ClassVar[bool] = True
    recalls: ClassVar[bool] = True

    minutes: float = 0.0
    steps: int = 0
    outputs: str = "auto"
    hidden: str = "mse"
    attention: bool = False
    relations: bool = False
    temperature: float = 2.0
    rank: int = 0
    rate: float = 0.002
    batch: int = 32
    tables: bool = False
    seed: int = 0
    keep: str = ""

    def run(self, model: ir.Model, context: Context) -> int:
        """Train; returns how many constants were learned, 0 when nothing came of it. Raises TargetError naming an operator that torch does not compute here."""
        self._check(context)
        need_torch("recovery")
        original = context.original
        if original is None:
            raise UsageError("recover learns from the model before compression: put it behind a pass that compresses")
        items = learnables(model, self.tables)
        if not items:
            raise NoChangeError("there is nothing to learn: the model has no weights outside branches and loops. Nothing was written.")
        if not context.ledger.permit(self.name, model.graph.outputs[0].name or ""):
            return 0
        course = self._train(model, original, items, context)
        self._note(model, items, course, context)
        return len(items) if course.gained else 0

    @classmethod
    def works_through(cls) -> tuple[str, ...]:
        """As `Pass.operators`."""
        return known_operators()

    def _check(self, context: Context) -> None:
        if self.minutes < 0 or self.steps < 0 or not (self.minutes or self.steps):
            raise UsageError("recover needs to know how long: minutes=15, or steps=1000")
        if self.outputs not in OUTPUTS or self.hidden not in HIDDEN:
            raise UsageError(f"recover compares outputs by {', '.join(OUTPUTS)} and hidden states by {', '.join(HIDDEN)}, not {self.outputs} and {self.hidden}")
        if self.rank < 0 or self.batch < 1 or self.rate <= 0 or self.temperature <= 0:
            raise UsageError("recover takes a rank from 0 on, a batch from 1 on, and a rate and a temperature above 0")
        if context.calibrator is None:
            raise UsageError("recover learns from real inputs: --calibration FILE, or --calibration random, which says less")

    def _train(self, model: ir.Model, original: ir.Model, items: list[Learnable], context: Context) -> Course:
        twin = settled(original)
        aims = Aims.of(settled(model), twin, self.outputs, self.hidden, self.attention, self.relations, self.temperature)
        if not aims.outputs:
            raise InputError("recover compares answers in floating point, and the model gives none")
        assert context.calibrator is not None
        spools = Spool(SAMPLES_BYTES), Spool(ANSWERS_BYTES)
        try:
            teacher = Teacher(TorchGraph.of(twin), aims.seen[1], spools[1])
            samples = Samples.of(stream_samples(context.calibrator, model), spools[0], batchable(twin))
            samples.together = samples.together and computed_apart(teacher, samples)
            graph = TorchGraph.of(model)
            student = Student(items, graph.constants, masks_of(items, original), self.rank, self.seed)
            learned, held = divided(samples.kinds, self.seed)
            budget = Budget(self.minutes, self.steps)
            kept = self._kept(student)
            training = Training(graph, student, teacher, aims, samples, learned, held, budget, self.rate, self.batch, self.seed, context.progress, kept)
            course = training.run()
            if course.gained:
                student.fold(model)
            return course
        finally:
            for spool in spools:
                spool.close()

    def _kept(self, student: Student) -> Kept | None:
        """Where training is kept; what tells it from others are its options and the numbers that it starts with."""
        if not self.keep:
            return None
        found = hashlib.sha256(repr(dataclasses.replace(self, keep="")).encode())
        for told in (*(item.name.encode() for item in student.items), *(tensor.cpu().numpy().tobytes() for tensor in student.state())):
            found.update(told)
        return Kept(Path(self.keep), found.hexdigest())

    def _note(self, model: ir.Model, items: Sequence[Learnable], course: Course, context: Context) -> None:
        """Say what came of it, of the whole and of each site."""
        if course.broke and not math.isfinite(course.before):
            why = "the answers were no numbers before it began"
        else:
            why = f"it did not bring answers on held-out samples closer (loss {course.before:.4g} before, {course.last:.4g} after {course.steps} steps)"
        learned = {item.name for item in items}
        for site in all_sites(model):
            if course.gained and (site.weight.name in learned):
                context.coverage.take(site, RECOVERED, 8.0 * (site.weight.dtype.itemsize if site.weight.dtype else 4), "distillation")
            else:
                context.coverage.leave(site, why if not course.gained else "its weight is not learned")
        if not course.gained:
            context.notes.append(f"Recovery changed nothing: {why}.")
            return
        broke = "; it stopped early, for the loss was no number any more" if course.broke else ""
        context.notes.append(
            f"Recovery brought the loss of answers on held-out samples from {course.before:.4g} to {course.best:.4g} "
            f"in {course.steps} steps ({course.seconds:.0f} s, {course.epochs} times through the data){broke}."
        )


def settled(model: ir.Model) -> ir.Model:
    """A clone whose shapes are known as far as they can be."""
    twin = clone_model(model)
    settle_shapes(twin)
    return twin


def masks_of(items: Sequence[Learnable], original: ir.Model) -> dict[str, np.ndarray]:
    """Which numbers of each weight may move: those that are not zero, or that were zero in the original already."""
    masks: dict[str, np.ndarray] = {}
    for item in items:
        tensor, before = constant(item.value), constant(original.graph.initializers.get(item.name))
        if item.kind != "weight" or tensor is None:
            continue
        kept = tensor.numpy() != 0
        if before is not None and tuple(before.shape.numpy()) == kept.shape:
            kept |= before.numpy() == 0
        if not kept.all():
            masks[item.name] = kept
    return masks


def divided(kinds: Sequence[Kind], seed: int) -> tuple[list[int], list[int]]:
    """The places of samples to learn from, and of those to judge by."""
    order = [int(place) for place in np.random.default_rng(seed).permutation(len(kinds))]
    reach = np.cumsum([rows(kinds[place]) for place in order])
    held = min(max(1, len(order) // HELD), max(1, int(np.searchsorted(reach, MOST_HELD))))
    return order[held:], order[:held]


def computed_apart(teacher: Teacher, samples: Samples) -> bool:
    """Whether two samples of one kind that are fed together get the values that each gets alone."""
    import torch

    kinds: dict[Kind, list[int]] = {}
    for place, kind in enumerate(samples.kinds):
        kinds.setdefault(kind, []).append(place)
    pair = next((places[:2] for places in kinds.values() if len(places) > 1), None)
    if pair is None:
        return True
    with torch.no_grad():
        both = run(teacher.graph, samples.batch(pair), teacher.names)
        for number, place in enumerate(pair):
            for name, alone in run(teacher.graph, samples.batch([place]), teacher.names).items():
                shared = part(both[name], number, len(pair))
                if shared.shape != alone.shape or not torch.allclose(shared.float(), alone.float(), rtol=AGREE, atol=AGREE, equal_nan=True):
                    return False
    return True
