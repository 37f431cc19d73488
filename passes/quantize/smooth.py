"""The pass that makes activations easy to round, at the expense of the weights or the other way round; the model computes the same."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from ...compiler.core.drift import ROUNDING, Drift
from ...compiler.core.errors import InputError, ModelError, UsageError
from ...compiler.core.graph import constant, is_op, make_constant, node_label
from ...compiler.core.names import Names
from ...compiler.core.passes import Context, Pass
from ...compiler.core.reasons import Skip, skip
from ...compiler.core.shapes import infer_node, settle_shapes
from ...compiler.core.sites import all_sites
from ...compiler.core.statistics import SiteStatistics
from .absorb import NORMS, Absorption
from .activation import ActivationGrid
from .changes import Changes
from .equivalent import Equivalence, Equivalent, find_equivalence, rounded_after
from .grid import Grid
from .joint import Precision, product_error, some_columns
from .readers import Shared, shared_inputs

RULE = "smooth"
WORTH = 0.7
"""An operator is only added where the error of the output falls below this share."""
LEAST_COLUMNS = 64
"""Nor in front of so few columns that it would take a good part of their time."""
ROWS = 256


@dataclass(frozen=True)
class Smooth(Pass):
    """Scales (and shifts) the channels that matrix products read, as ``method`` finds on calibration data; the operators before take it up.

    Where they cannot, because somebody else reads the value too, say, a Mul is put in (``insert``), if the error of the output at ``bits`` and
    ``input_bits`` falls enough for that. ``alpha`` is that of smoothquant. ``only`` and ``keep`` name sites; all that read one value go together.
    """

    name: ClassVar[str] = RULE
    drift: ClassVar[Drift] = ROUNDING

    method: str = "smoothquant"
    alpha: float = 0.5
    bits: int = 8
    input_bits: int = 8
    block: int = 0
    insert: bool = True
    only: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()

    def run(self, model: ir.Model, context: Context) -> int:
        """Change the model in place; returns how many values are scaled now. Raises InputError without calibration data."""
        way = self._equivalence()
        if context.calibrator is None:
            raise InputError(f"{RULE} looks at activations: give it calibration data (calibration=, --calibration)")
        settle_shapes(model)
        names, done = Names(model), 0
        for shared, ways in list(self._found(model, way, context)):
            refusal = _smooth(shared, ways, names, context)
            if refusal is None:
                done += 1
            else:
                _note(context, shared, refusal)
        return done

    def _equivalence(self) -> Equivalence:
        kind = find_equivalence(self.method)
        fields = {item.name for item in dataclasses.fields(kind)}
        return kind(**({"alpha": self.alpha} if "alpha" in fields else {}))

    def _found(self, model: ir.Model, way: Equivalence, context: Context) -> Iterator[tuple[Shared, list[_Way]]]:
        """For each value its transform; where a shift cannot be taken up, the best one without a shift too."""
        assert context.calibrator is not None
        groups = {shared.sites[0].name: shared for shared in shared_inputs(all_sites(model)) if self._is_wanted(shared)}
        precision = Precision(Grid(self.bits, True, self.block), ActivationGrid(self.input_bits))
        first = [shared.sites[0] for shared in groups.values()]
        for site, (statistics, *_) in context.calibrator.sites(model, first, moments=way.moments, rows=max(ROWS, way.rows)):
            shared = groups[site.name]
            try:
                changes = _transforms(way, shared, statistics, precision)
            except (ModelError, UsageError) as error:
                _note(context, shared, skip("%s", error))
                continue
            if changes:
                yield shared, [_Way(change, self.insert and _pays(change, shared, statistics, precision)) for change in changes]

    def _is_wanted(self, shared: Shared) -> bool:
        names = {site.name for site in shared.sites}
        return (not self.only or bool(names & set(self.only))) and not names & set(self.keep)


@dataclass(frozen=True)
class _Way:
    """A transform, and whether it is worth an operator more."""

    change: Equivalent
    pays: bool


def _transforms(way: Equivalence, shared: Shared, statistics: SiteStatistics, precision: Precision) -> list[Equivalent]:
    weight, gain = shared.weight(), _gain(shared.value)
    found = [way.find(weight, statistics, precision, gain)]
    shifts = any(item.name == "shifts" for item in dataclasses.fields(way))
    if shifts and found[0].shift.any() and _taken_up(shared, found[0], Changes()) is not None:
        found.append(dataclasses.replace(way, shifts=False).find(weight, statistics, precision, gain))  # type: ignore[call-arg]
    return [change for change in found if change.changes]


def _smooth(shared: Shared, ways: list[_Way], names: Names, context: Context) -> Skip | None:
    """Apply the first transform that the operators before take up, else the first that is worth one more; why not, in which case nothing is changed."""
    reason: Skip | None = None
    for way in ways:
        changes = Changes()
        refusal = _taken_up(shared, way.change, changes)
        if refusal is None:
            return _permitted(shared, changes, names, context)
        reason = reason or refusal
    for way in ways:
        changes = Changes()
        refusal = shared.rewrite(changes, way.change.scale, way.change.shift) or changes.refusal()
        if way.pays and refusal is None:
            refusal = _permitted(shared, changes, names, context)
            if refusal is None:
                _put_in(shared, way.change, names)
            return refusal
    return reason


def _permitted(shared: Shared, changes: Changes, names: Names, context: Context) -> Skip | None:
    if not context.ledger.permit(RULE, shared.name):
        return skip("it was rolled back here")
    changes.apply(names)
    return None


def _taken_up(shared: Shared, change: Equivalent, changes: Changes) -> Skip | None:
    """Note what the operators before and the sites after become."""
    if not shared.alone:
        return skip("'%s' is also needed elsewhere", shared.name)
    shape = (1,) * (shared.rank - 1) + (-1,)
    scale, shift = (1 / change.scale).reshape(shape), (-change.shift / change.scale).reshape(shape)
    return Absorption(changes).take(shared.value, scale, shift) or shared.rewrite(changes, change.scale, change.shift) or changes.refusal()


def _put_in(shared: Shared, change: Equivalent, names: Names) -> None:
    """X * (1 / scale) - shift / scale in front of the sites."""
    graph, value = shared.sites[0].node.graph, shared.value
    assert graph is not None and value.dtype is not None
    for op_type, content in (("Mul", 1 / change.scale), ("Add", -change.shift / change.scale)):
        if op_type == "Add" and not change.shift.any():
            continue
        number = make_constant(graph, content.astype(value.dtype.numpy()), names.fresh(f"{shared.name}_{RULE}_{op_type.lower()}_by"))
        name = names.fresh(f"{shared.name}_{RULE}_{op_type.lower()}")
        node = ir.Node("", op_type, [value, number], outputs=[ir.Value(name=name)], name=name)
        graph.insert_before(shared.sites[0].node, node)
        infer_node(node)
        value = node.outputs[0]
    for site in shared.sites:
        site.node.replace_input_with(1 - site.weight_at, value)


def _gain(value: ir.Value) -> np.ndarray | None:
    """The scale of the norm that makes a value."""
    node = value.producer()
    if not is_op(node, *NORMS) or node is None:
        return None
    tensor = constant(node.inputs[1])
    width = value.shape[-1] if value.shape is not None and len(value.shape) else None
    return None if tensor is None or tensor.size != width else tensor.numpy().reshape(-1)


def _pays(change: Equivalent, shared: Shared, statistics: SiteStatistics, precision: Precision) -> bool:
    """Whether the error of the output falls enough for an operator more."""
    weight = some_columns(shared.weight())
    if weight.shape[1] < LEAST_COLUMNS or not len(statistics.rows):
        return False
    plain, better = (rounded_after(item, weight, statistics, precision) for item in (Equivalent.none(len(weight)), change))
    return product_error(better, weight, statistics.rows) < WORTH**2 * product_error(plain, weight, statistics.rows)


def _note(context: Context, shared: Shared, reason: Skip) -> None:
    if context.reasons is not None and context.reasons.wants(RULE):
        producer = shared.value.producer()
        context.reasons.note(RULE, node_label(producer) if producer is not None else shared.name, 1, reason)
