"""Correction of a pruned model, site by site in the order of the graph, each on the inputs that the sites before it give once they are corrected."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from ...compiler.core.graph import constant, is_op, make_constant
from ...compiler.core.names import Names
from ...compiler.core.shapes import dims_of
from ...compiler.core.sites import Site, all_sites
from ...compiler.core.statistics import Calibrator
from .beside import Beside, beside
from .readers import output_axis
from .refit import bias_before, refit, takes_bias, write

__all__ = ["correct"]

PARTS = 4
"""The samples are dealt to so many parts; the last judges what was fitted on the others."""
KINDS = ("MatMul", "Gemm", "Conv")


@dataclass(frozen=True)
class Subject:
    """A site of the pruned model, the same site in the graph that holds both models, and the value there that it is to give."""

    site: Site
    twin: Site
    target: ir.Value


def correct(earlier: ir.Model, later: ir.Model, columns: Mapping[str, np.ndarray], calibrator: Calibrator) -> int:
    """Fit the sites of ``later`` to what they gave in ``earlier``; returns how many were changed.

    ``columns`` holds, by `Site.name`, which output channels of a site are left where some are gone. What feeds a sum with something else is fitted to the
    sum as it was: it makes up for what went wrong in the other summand before it.
    """
    both = beside(earlier, later)
    subjects = {subject.twin.name: subject for subject in _subjects(both, later, columns)}
    names, inner, done = Names(later), Names(both.model), 0
    twins = [subject.twin for subject in subjects.values()]
    targets = [subject.target.name or "" for subject in subjects.values()]
    for twin, parts in calibrator.pairs(both.model, twins, targets, parts=min(PARTS, calibrator.samples)):
        site = subjects[twin.name].site
        found = refit(site.matrices()[0], bias_before(site), parts, takes_bias(site))
        if found is not None:
            write(twin, found, inner)
            write(site, found, names)
            done += 1
    return done


def _subjects(both: Beside, later: ir.Model, columns: Mapping[str, np.ndarray]) -> Iterator[Subject]:
    """The sites that read something else than before, in the order of the graph."""
    sites = {site.name: site for site in all_sites(later)}
    twins = {site.name: site for site in all_sites(both.model)}
    names, places = Names(both.model), {node: place for place, node in enumerate(both.model.graph)}
    changed = _changed(both, later)
    for name, site in sites.items():
        value, before = both.of(name), both.before(name)
        twin = None if value is None else twins.get(value.name or "")
        if before is None or twin is None or value not in changed or not _fits(site) or not _fits(twin):
            continue
        yield Subject(site, twin, _target(both, twin, before, name, columns.get(name), names, places))


def _fits(site: Site) -> bool:
    return site.kind in KINDS and site.groups == 1 and len(site.weight.uses()) == 1 and site.node.graph is not None


def _changed(both: Beside, later: ir.Model) -> set[ir.Value]:
    """The values of the later version that do not depend on the same numbers as before."""
    smaller = set()
    for name in later.graph.initializers:
        value, before = both.of(name), both.before(name)
        if value is not None and (before is None or value.const_value is not before.const_value):
            smaller.add(value)
    for node in both.model.graph:
        if any(value in smaller for value in node.inputs):
            smaller.update(node.outputs)
    return smaller


def _target(
    both: Beside, twin: Site, before: ir.Value, name: str, columns: np.ndarray | None, names: Names, places: dict[ir.Node, int]
) -> ir.Value:
    """What the site gave, less the channels that are gone, and with what the other summand of a residual lacks now."""
    axis = output_axis(twin)
    target, last = before, before.producer()
    assert last is not None
    added: list[ir.Node] = []
    other = _summand(twin)
    old = both.before(both.name_of(other)) if other is not None else None
    if other is not None and old is not None and dims_of(old) is not None:
        made = [node for node in (last, other.producer(), old.producer()) if node is not None and node in places]
        last = max(made, key=lambda node: places[node])
        target = _made(added, "Add", [before, old], names, name)
    if columns is not None:
        graph = both.model.graph
        kept = make_constant(graph, columns.astype(np.int64), names.fresh(f"{name}_kept"))
        target = _made(added, "Gather", [target, kept], names, name, axis=axis)
    if added and added[0].op_type == "Add":
        assert other is not None
        target = _made(added, "Sub", [target, other], names, name)
    for node in added:
        both.model.graph.insert_after(last, node)
        places[node] = places[last]
        last = node
    return target


def _made(added: list[ir.Node], op: str, inputs: list[ir.Value], names: Names, hint: str, **attributes: int) -> ir.Value:
    node = ir.Node("", op, inputs, attributes=[ir.AttrInt64(key, value) for key, value in attributes.items()], name=names.fresh(f"{hint}_{op}"))
    node.outputs[0].name = names.fresh(f"{hint}_wanted")
    node.outputs[0].type = inputs[0].type
    added.append(node)
    return node.outputs[0]


def _summand(site: Site) -> ir.Value | None:
    """What is added to what the site gives (its bias aside) and to nothing else of it; None when there is nothing of this shape."""
    value = site.node.outputs[0]
    for _ in range(2):
        uses = list(value.uses())
        if len(uses) != 1 or value.is_graph_output() or not is_op(uses[0].node, "Add"):
            return None
        other = uses[0].node.inputs[1 - uses[0].idx]
        if other is not None and constant(other) is None:
            dims = dims_of(other)
            return other if dims is not None and dims == dims_of(uses[0].node.outputs[0]) and other is not value else None
        value = uses[0].node.outputs[0]
    return None
