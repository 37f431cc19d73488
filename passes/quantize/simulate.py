"""Rounding simulated in floating point: what a model would compute with few bits, at widths for which no runtime has kernels."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx_ir as ir

from ...compiler.core.build import Build
from ...compiler.core.errors import InputError
from ...compiler.core.graph import users
from ...compiler.core.names import Names
from ...compiler.core.shapes import infer_node, settle_shapes
from ...compiler.core.sites import Site, all_sites
from ...compiler.core.statistics import Calibrator
from .activation import ActivationGrid
from .changes import Changes
from .grid import Grid
from .method import Method
from .tied import untie

__all__ = ["round_inputs", "round_weights"]

TINY = float(np.finfo(np.float32).tiny)


def round_weights(
    model: ir.Model, method: Method, grid: Grid, calibrator: Calibrator | None = None, sites: Iterable[Site] | None = None, *, rows: int = 0
) -> int:
    """Replace the weights of all sites but embeddings (or of these) by what a method makes of them; returns how many were.

    Raises InputError when the method needs calibration data and there is none.
    """
    if type(method).calibrated() and calibrator is None:
        raise InputError(f"the method '{method.name}' looks at activations: give it calibration data")
    settle_shapes(model)
    tied = untie(model)
    chosen = [site for site in all_sites(model) if site.kind != "Gather"] if sites is None else list(sites)
    changes = Changes(copies=True)
    if calibrator is None or not type(method).calibrated():
        pairs: Iterable = ((site, None) for site in chosen)
    else:
        pairs = calibrator.sites(model, chosen, moments=type(method).moments, rows=max(rows, type(method).rows))
    done = 0
    for site, statistics in pairs:
        groups = [method.quantize(part, None if statistics is None else statistics[place], grid).matrix() for place, part in enumerate(site.matrices())]
        done += changes.write(site.node, site.weight_at, site.stored(np.stack(groups)).astype(np.float64)) is None
    changes.apply(Names(model))
    tied.restore()
    return done


def round_inputs(model: ir.Model, grid: ActivationGrid, calibrator: Calibrator | None = None, sites: Iterable[Site] | None = None) -> int:
    """Put a simulated rounding in front of all sites but embeddings (or of these); returns how many values are rounded.

    Ranges are those of the calibration data, or of each token (the last axis; of the whole value where a convolution reads it) when it comes.
    Raises InputError when the grid is static and there is no calibration data.
    """
    if not grid.token and calibrator is None:
        raise InputError("a static grid needs the ranges of the activations: give calibration data")
    settle_shapes(model)
    tied = untie(model)
    chosen = [site for site in all_sites(model) if site.kind != "Gather"] if sites is None else list(sites)
    values = dict.fromkeys(site.data for site in chosen)
    found = {} if grid.token or calibrator is None else calibrator.ranges(model, [value.name or "" for value in values])
    names, done = Names(model), 0
    for value in values:
        readers = [site for site in chosen if site.data is value]
        known = found.get(value.name or "")
        if value.dtype is None or (known is None and not grid.token):
            continue
        axes = [-1] if all(site.kind in ("MatMul", "Gemm") and site.weight_at == 1 for site in readers) else None
        _put_in(value, readers, grid, None if known is None else (known.low, known.high), axes, names)
        done += 1
    tied.restore()
    return done


def _put_in(value: ir.Value, readers: list[Site], grid: ActivationGrid, known: tuple[float, float] | None, axes: list[int] | None, names: Names) -> None:
    pen = Build()
    rounded = _static(pen, value, grid, *known) if known is not None else _dynamic(pen, value, grid, axes)
    first, graph = readers[0].node, readers[0].node.graph
    assert graph is not None
    for constant in pen.constants:
        constant.name = names.fresh(f"{value.name}_{constant.meta['hint']}")
        graph.register_initializer(constant)
    for node in pen.nodes:
        node.name = names.fresh(f"{value.name}_{node.op_type}")
        node.outputs[0].name = names.fresh(f"{value.name}_{node.op_type}_out")
        graph.insert_before(first, node)
        infer_node(node)
    for site in readers:
        if site.node in users(value):
            site.node.replace_input_with(1 - site.weight_at, rounded)


def _static(pen: Build, value: ir.Value, grid: ActivationGrid, low: float, high: float) -> ir.Value:
    low, high = min(low, 0.0), max(high, 0.0)
    least, most = _ends(grid)
    span = max(-low, high) / most if grid.symmetric else (high - low) / most
    scale = span if span >= TINY else 1.0
    zero = 0.0 if grid.symmetric else float(np.rint(-low / scale))
    codes = pen.Clip(pen.Add(pen.Round(pen.Div(value, scale)), zero), least, most)
    return pen.Mul(pen.Sub(codes, zero), scale)  # type: ignore[return-value]


def _dynamic(pen: Build, value: ir.Value, grid: ActivationGrid, axes: list[int] | None) -> ir.Value:
    along = None if axes is None else pen.const(axes, "axes")
    least, most = _ends(grid)
    zero_point: ir.Value | float = 0.0
    if grid.symmetric:
        span = pen.ReduceMax(pen.Abs(value), along, keepdims=1)
    else:
        low = pen.Min(pen.ReduceMin(value, along, keepdims=1), 0.0)
        span = pen.Sub(pen.Max(pen.ReduceMax(value, along, keepdims=1), 0.0), low)
    scale = pen.Max(pen.Div(span, float(most)), TINY)
    if not grid.symmetric:
        zero_point = pen.Round(pen.Div(pen.Neg(low), scale))  # type: ignore[assignment]
    codes = pen.Clip(pen.Add(pen.Round(pen.Div(value, scale)), zero_point), least, most)
    return pen.Mul(pen.Sub(codes, zero_point), scale)  # type: ignore[return-value]


def _ends(grid: ActivationGrid) -> tuple[float, float]:
    """The least and greatest code."""
    most = 2 ** (grid.bits - 1) - 1 if grid.symmetric else 2**grid.bits - 1
    return (-float(most) if grid.symmetric else 0.0), float(most)
