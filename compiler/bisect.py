"""Finds where two models, or a model and what a pipeline makes of it, part ways."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir

from .core.backend import Progress, Sample
from .core.drift import Drift
from .core.errors import InputError
from .core.graph import clone_model, node_label
from .core.passes import Pass
from .core.records import Difference, RolledBack
from .core.target import PORTABLE, Target
from .manager import Manager
from .matching import ancestors, match_values, nearest
from .region import expose, values_by_name
from .samples import generate
from .show import side_by_side
from .verify import References, Verifier

__all__ = ["Culprit", "Divergence", "bisect_files", "bisect_models", "bisect_pipeline"]

AT_ONCE = 16
"""So many inner values are looked at in one run."""


@dataclass(frozen=True)
class Divergence:
    """Where two models part ways.

    ``output`` is the model output that shows it, ``value`` and ``other`` the first inner value that differs, as each model calls it, ``node`` and
    ``other_node`` what computes it. ``difference`` is its worst element, ``text`` the two pieces of graph between it and what still agrees.
    """

    output: str
    value: str
    other: str
    node: str
    other_node: str
    difference: Difference
    text: str
    compared: int


@dataclass(frozen=True)
class Culprit:
    """A rewrite of a pipeline that broke its contract, and the pass that made it."""

    step: str
    undone: RolledBack


def bisect_files(
    before: Path, after: Path, inputs: Sequence[Sample] = (), backend: References | None = None, progress: Progress | None = None
) -> Divergence | None:
    """`bisect_models` on two files."""
    from .importer import import_model

    return bisect_models(import_model(before).model, import_model(after).model, inputs, backend, progress)


def bisect_models(
    before: ir.Model, after: ir.Model, inputs: Sequence[Sample] = (), backend: References | None = None, progress: Progress | None = None
) -> Divergence | None:
    """The first value in which ``after`` differs from ``before`` by more than rounding; None when every output agrees.

    They are compared on ``inputs`` and then on inputs made for them. Both run with the runtime's optimisations off.
    Raises InputError when the models take different inputs, or make different outputs.
    """
    backend = backend or _default_backend()
    after = _comparable(before, after)
    samples = _made(before, inputs, backend)
    whole = Verifier(before, samples, backend, progress)
    found = whole.check(after, Drift.ROUNDING)
    if not found.broken:
        return None
    if not found.output:
        raise InputError(f"the second model cannot be compared: {found.reason}")
    return _Search(before, after, samples[found.sample], backend, progress).run(found)


def bisect_pipeline(
    model: ir.Model,
    passes: Sequence[Pass],
    inputs: Sequence[Sample] = (),
    backend: References | None = None,
    *,
    target: Target = PORTABLE,
    replay_folder: Path | None = None,
    progress: Progress | None = None,
) -> tuple[Culprit, ...]:
    """Every rewrite of a pipeline that breaks its contract on ``model``, which stays as it is."""
    backend = backend or _default_backend()
    verifier = Verifier(model, _made(model, inputs, backend), backend, progress)
    records = Manager(target, verifier, replay_folder, progress).run(clone_model(model), passes)
    return tuple(Culprit(record.text, undone) for record in records for undone in record.rolled_back)


def _default_backend() -> References:
    from .targets import find_backend

    return find_backend("onnx")


def _made(model: ir.Model, given: Sequence[Sample], backend: References) -> tuple[Sample, ...]:
    """The user's inputs, then others."""
    runner = backend.reference(model)
    try:
        return generate(model, given, run=runner.run)
    finally:
        runner.close()


def _comparable(before: ir.Model, after: ir.Model) -> ir.Model:
    """A copy of ``after`` whose outputs have the names they have in ``before``."""
    ours, theirs = ([value.name for value in model.graph.inputs if not value.is_initializer()] for model in (before, after))
    if set(ours) != set(theirs):
        raise InputError(f"the models take different inputs: {ours} and {theirs}")
    names, others = ([value.name for value in model.graph.outputs] for model in (before, after))
    if len(names) != len(others):
        raise InputError(f"the models make different outputs: {names} and {others}")
    copy = clone_model(after)
    if names == others:
        return copy
    if set(names) == set(others):
        order = {value.name: value for value in copy.graph.outputs}
        copy.graph.outputs[:] = [order[name] for name in names]
        return copy
    return _renamed(copy, names)


def _renamed(model: ir.Model, names: Sequence[str | None]) -> ir.Model:
    """Outputs under other names, in order."""
    known = {value.name: value for node in model.graph for value in node.outputs}
    for place, (value, name) in enumerate(zip(list(model.graph.outputs), names, strict=True)):
        if value.name == name:
            continue
        if name in known:
            known[name].name = f"{name}_inner"
        node = ir.node("Identity", [value], name=f"output_{place}_renamed")
        node.outputs[0].name, node.outputs[0].type, node.outputs[0].shape = name, value.type, value.shape
        model.graph.append(node)
        model.graph.outputs[place] = node.outputs[0]
    return model


class _Search:
    """Looks at inner values of both models on one sample."""

    def __init__(self, before: ir.Model, after: ir.Model, sample: Sample, backend: References, progress: Progress | None) -> None:
        self.before, self.after = before, after
        self.sample, self.backend, self.progress = sample, backend, progress or (lambda _: None)
        self.pairs = match_values(before, after)
        self.ours, self.theirs = values_by_name(before), values_by_name(after)
        self.seen: dict[str, Difference | None] = {}

    def run(self, found: Difference) -> Divergence:
        output = found.output.partition("[")[0]
        self.seen[output] = found
        worst = output
        while True:
            above = {value.name for value in ancestors(self.ours[worst])}
            candidates = [name for name in self.pairs if name in above and name != worst and not self.ours[name].is_graph_input()]
            earlier = self._first(candidates)
            if earlier is None:
                earlier = self._among([value.name or "" for value in self._border(worst)])
            if earlier is None:
                return self._report(output, worst)
            worst = earlier

    def _border(self, name: str) -> list[ir.Value]:
        usable = [other for other in self.pairs if self.seen.get(other, True) is not None]
        return nearest(self.ours[name], usable)[0]

    def _first(self, candidates: Sequence[str]) -> str | None:
        """The first of the candidates, in order of computation, that a search by division finds to differ."""
        low, high, found = 0, len(candidates), None
        while low < high:
            places = range(low, high, max(1, (high - low) // AT_ONCE))
            self.progress(f"comparing {len(places)} of {high - low} inner values")
            wrong = self._differing([candidates[place] for place in places])
            bad = next((place for place in places if candidates[place] in wrong), None)
            agreeing = [place for place in places if bad is None or place < bad]
            if bad is not None:
                found, high = candidates[bad], bad
            low = agreeing[-1] + 1 if agreeing else high
        return found

    def _among(self, names: Sequence[str]) -> str | None:
        wrong = self._differing([name for name in names if name in self.pairs and not self.ours[name].is_graph_input()])
        return next((name for name in self.pairs if name in wrong), None)

    def _differing(self, names: Sequence[str]) -> set[str]:
        """Those of the named values that differ by more than rounding; what turns out to have another shape was no match."""
        unknown = [name for name in names if name not in self.seen]
        for start in range(0, len(unknown), AT_ONCE):
            self._compare(unknown[start : start + AT_ONCE])
        return {name for name in names if (found := self.seen[name]) is not None and found.broken}

    def _compare(self, names: Sequence[str]) -> None:
        try:
            reference = Verifier(expose(self.before, names), [self.sample], self.backend)
            results = reference.check_each(expose(self.after, [self.pairs[name] for name in names]), Drift.ROUNDING)
        except Exception as error:
            if len(names) == 1:
                self.progress(f"'{names[0]}' cannot be looked at: {error}")
                self.seen[names[0]] = None
                return
            for name in names:
                self._compare([name])
            return
        for place, name in enumerate(names):
            found = results.get(f"exposed_{place}")
            fits = found is not None and not found.reason.startswith(("its shape", "its type"))
            self.seen[name] = dataclasses.replace(found, output=name) if found is not None and fits else None

    def _report(self, output: str, name: str) -> Divergence:
        difference = self.seen[name]
        assert difference is not None
        other = self.pairs.get(name, name)
        one, two = self.ours[name], self.theirs[other]
        agreeing = [match for match in self.pairs if (found := self.seen.get(match)) is not None and not found.broken]
        left = nearest(one, [*agreeing, *(value.name or "" for value in self.before.graph.inputs)])[1]
        right = nearest(two, [*(self.pairs[match] for match in agreeing), *(value.name or "" for value in self.after.graph.inputs)])[1]
        compared = sum(found is not None for found in self.seen.values())
        return Divergence(output, name, other, _maker(one), _maker(two), difference, side_by_side(left, right), compared)


def _maker(value: ir.Value) -> str:
    node = value.producer()
    return node_label(node) if node is not None else "an input"
