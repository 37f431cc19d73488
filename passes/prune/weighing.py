"""What an error in what a site makes is a share of: how much the value varies that it becomes a part of."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from ...compiler.core.graph import clone_model, constant, is_op, make_constant, opset
from ...compiler.core.names import Names
from ...compiler.core.shapes import dims_of
from ...compiler.core.sites import Site, all_sites
from ...compiler.core.statistics import Calibrator
from .readers import output_axis

__all__ = ["part_of", "variations"]

AXES_ARE_INPUTS = 18
"""The first opset whose ReduceMean takes its axes as an input."""
STEPS = 2
"""A bias and a residual."""


def variations(model: ir.Model, sites: Sequence[Site], calibrator: Calibrator) -> dict[str, float]:
    """For each site by name the variance of what it becomes a part of, summed over channels: of the sum that its output is added to, or of the output itself.

    What is added to a stream that varies much is missed less than its own size says. What cannot be observed is left out.
    """
    twin, wanted = clone_model(model), {site.name for site in sites}
    names, asked = Names(twin), dict[str, tuple[str, str]]()
    for site in list(all_sites(twin)):
        value = part_of(site) if site.name in wanted else None
        if value is not None and dims_of(value) is not None:
            axis = output_axis(site) % len(dims_of(value) or ())
            squared = _node(twin, "Mul", [value, value], names)
            asked[site.name] = (_mean(twin, value, axis, names), _mean(twin, squared, axis, names))
    means = dict(calibrator.means(twin, list(dict.fromkeys(name for pair in asked.values() for name in pair))))
    found = {}
    for name, (mean, square) in asked.items():
        if mean in means and square in means:
            varied = float((means[square] - np.square(means[mean])).sum())
            if np.isfinite(varied) and varied > 0:
                found[name] = varied
    return found


def part_of(site: Site) -> ir.Value:
    """The sum of what a site makes (with its bias) and of something else of its shape, where nothing else reads it; else what it makes."""
    value = site.node.outputs[0]
    for _ in range(STEPS):
        uses = list(value.uses())
        if len(uses) != 1 or value.is_graph_output() or not is_op(uses[0].node, "Add"):
            break
        result, other = uses[0].node.outputs[0], uses[0].node.inputs[1 - uses[0].idx]
        if dims_of(result) is None or dims_of(result) != dims_of(site.node.outputs[0]):
            break
        if other is not None and constant(other) is None:
            return result if dims_of(other) == dims_of(result) else site.node.outputs[0]
        value = result
    return site.node.outputs[0]


def _mean(model: ir.Model, value: ir.Value, channel: int, names: Names) -> str:
    """Add what computes the mean of each channel, [1, channels]; its name."""
    axes = [axis for axis in range(len(dims_of(value) or ())) if axis != channel]
    if opset(model.graph) >= AXES_ARE_INPUTS:
        inputs = [value, make_constant(model.graph, np.array(axes, np.int64), names.fresh("axes"))]
        made = _node(model, "ReduceMean", inputs, names, ir.AttrInt64("keepdims", 0))
    else:
        made = _node(model, "ReduceMean", [value], names, ir.AttrInt64s("axes", axes), ir.AttrInt64("keepdims", 0))
    row = make_constant(model.graph, np.array([1, -1], np.int64), names.fresh("row"))
    return _node(model, "Reshape", [made, row], names).name or ""


def _node(model: ir.Model, op: str, inputs: Sequence[ir.Value], names: Names, *attributes: ir.Attr) -> ir.Value:
    node = ir.Node("", op, inputs, attributes=attributes, name=names.fresh(f"{inputs[0].name}_{op}"))
    node.outputs[0].name, node.outputs[0].type = names.fresh(f"{inputs[0].name}_{op}_seen"), inputs[0].type
    model.graph.append(node)
    return node.outputs[0]
