"""A site as several operators: what a graph has of a factorised weight."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from ...compiler.core.build import Build
from ...compiler.core.graph import attribute, constant
from ...compiler.core.reasons import Skip, skip
from ...compiler.core.sites import Site
from ..fold.arithmetic import narrowed
from ..quantize.surgery import Place, Way, place_of
from .factors import Factors, Stage, count

__all__ = ["Composed", "Product"]

CONVOLUTIONS = ("Conv", "ConvTranspose")


@dataclass(frozen=True)
class Composed:
    """A site, and how it is computed instead."""

    place: Place
    way: Way


@dataclass(frozen=True)
class Product:
    """What a weight becomes: ``groups`` are the factors of each, or its stages of convolutions in a row.

    ``numbers`` counts those that are not zero.
    """

    groups: Sequence[Factors] | Sequence[Sequence[Stage]]
    form: str
    numbers: int

    @classmethod
    def of_factors(cls, groups: Sequence[Factors]) -> Product:
        """Of a matrix for each group."""
        return cls(groups, groups[0].form, sum(part.numbers for part in groups))

    @classmethod
    def of_stages(cls, groups: Sequence[Sequence[Stage]], form: str) -> Product:
        """Of a kernel for each group."""
        return cls(groups, form, sum(count(stage.weight) for part in groups for stage in part))

    def at(self, site: Site) -> Composed | Skip:
        """In the place of a site; why it cannot be there."""
        if isinstance(self.groups[0], Factors):
            return _composed(site, self.groups, self.form)  # type: ignore[arg-type]
        return _staged(site, self.groups, self.form)  # type: ignore[arg-type]


def _composed(site: Site, groups: Sequence[Factors], form: str) -> Composed | Skip:
    bias = None if any(part.bias is None for part in groups) else np.concatenate([part.bias for part in groups if part.bias is not None])
    if bias is not None and site.kind == "ConvTranspose":
        return skip("the taps of a transposed convolution overlap, and this method adds something of its own to each")
    place = place_of(site) if bias is not None and site.kind in CONVOLUTIONS else Place(site)
    if bias is not None and site.kind in CONVOLUTIONS and site.bias is not None and place.bias is None:
        return skip("its bias is computed, and this method changes the bias")
    dtype = _dtype(site)
    chain = [narrowed(np.stack([part.chain[index] for part in groups]), dtype) for index in range(len(groups[0].chain))]
    rest = None if groups[0].rest is None else narrowed(np.stack([part.rest for part in groups if part.rest is not None]), dtype)
    if any(part is None for part in chain) or (groups[0].rest is not None and rest is None):
        return skip("its factors overflow, or lose digits, in %s", str(dtype))
    matrices = [part for part in chain if part is not None]
    composer = _Composer(site, place, matrices, rest, None if bias is None else bias.astype(np.float64))
    refusal = composer.refusal()
    if refusal is not None:
        return refusal
    return Composed(place, Way(form, composer.compose))


@dataclass(frozen=True)
class _Composer:
    """``chain`` holds matrices [groups, rows, columns] in the dtype of the weight, ``rest`` [groups, K, M]; ``bias`` float64 [M] is added to each row."""

    site: Site
    place: Place
    chain: Sequence[np.ndarray]
    rest: np.ndarray | None
    bias: np.ndarray | None

    def refusal(self) -> Skip | None:
        """Why it cannot be composed."""
        if self.site.kind == "MatMul" and self.site.flipped and self.bias is not None and self.site.data.shape is None:
            return skip("the rank of its input is not known, and this method adds a bias")
        return None

    def compose(self, pen: Build, data: ir.Value) -> ir.Value:
        """The operators, on the data of the site."""
        if self.site.kind in CONVOLUTIONS:
            return self._convolved(pen, data)
        if self.site.kind == "Gather":
            return self._embedded(pen, data)
        return self._multiplied(pen, data) if self.site.kind == "MatMul" else self._gemm(pen, data)

    def _multiplied(self, pen: Build, data: ir.Value) -> ir.Value:
        flipped, found = self.site.flipped, data
        for matrix in self.chain:
            found = _times(pen, found, matrix[0], flipped)
        if self.rest is not None:
            found = pen.Add(found, _times(pen, data, self.rest[0], flipped))  # type: ignore[assignment]
        return self._shifted(pen, found, flipped and len(data.shape or ()) > 1)

    def _shifted(self, pen: Build, found: ir.Value, column: bool) -> ir.Value:
        if self.bias is None:
            return found
        content = self.bias.astype(self.chain[0].dtype)
        return pen.Add(found, pen.const(content[:, None] if column else content, "bias"))  # type: ignore[return-value]

    def _gemm(self, pen: Build, data: ir.Value) -> ir.Value:
        """alpha X W + beta C: the scales and C go to the product that comes last."""
        node, found, added = self.site.node, data, self.site.bias
        scales: dict[str, object] = {name: attribute(node, name, 1.0) for name in ("alpha", "beta")}
        if self.rest is not None:
            added, scales["beta"] = self._last(pen, data, self.rest[0], added, scales), 1.0
        for matrix in self.chain[:-1]:
            found = pen.Gemm(found, pen.const(matrix[0], "factor"))  # type: ignore[assignment]
        made = self._last(pen, found, self.chain[-1][0], added, scales)
        if self.bias is None:
            return made
        return pen.Add(made, pen.const((self.bias * float(scales["alpha"])).astype(self.chain[0].dtype), "bias"))  # type: ignore[return-value,arg-type]

    def _last(self, pen: Build, data: ir.Value, matrix: np.ndarray, added: ir.Value | None, scales: dict[str, object]) -> ir.Value:
        flipped = self.site.flipped
        content = np.ascontiguousarray(matrix.T) if flipped else matrix
        return pen.Gemm(data, pen.const(content, "factor"), added, transB=int(flipped), **scales)  # type: ignore[return-value]

    def _embedded(self, pen: Build, data: ir.Value) -> ir.Value:
        """Rows of the first factor, multiplied by the others."""
        found = pen.Gather(pen.const(self.chain[0][0], "factor"), data, axis=0)
        for matrix in self.chain[1:]:
            found = pen.MatMul(found, pen.const(matrix[0], "factor"))
        if self.rest is not None:
            found = pen.Add(found, pen.Gather(pen.const(self.rest[0], "factor"), data, axis=0))
        return found  # type: ignore[return-value]

    def _convolved(self, pen: Build, data: ir.Value) -> ir.Value:
        """The kernel stays with the factor that reads patches: the first of a convolution, the last of a transposed one."""
        first, *others = self.chain
        moved = self.site.kind == "Conv"
        added = self._bias(pen)
        found = (_all_taps if moved else _one_tap)(pen, self.site, data, first, None)
        for place, matrix in enumerate(others):
            final = place == len(others) - 1
            found = (_one_tap if moved or not final else _all_taps)(pen, self.site, found, matrix, added if final else None)
        if self.rest is not None:
            found = pen.Add(found, _all_taps(pen, self.site, data, self.rest, None))  # type: ignore[assignment]
        return found

    def _bias(self, pen: Build) -> ir.Value | None:
        if self.bias is None:
            return self.site.bias
        before = 0.0 if self.place.bias is None else self.place.bias.astype(np.float64)
        return pen.const((before + self.bias).astype(self.chain[0].dtype), "bias")


def _staged(site: Site, groups: Sequence[Sequence[Stage]], form: str) -> Composed | Skip:
    dtype, found = _dtype(site), []
    for index in range(len(groups[0])):
        weight = narrowed(np.concatenate([part[index].weight for part in groups]), dtype)
        if weight is None:
            return skip("its factors overflow, or lose digits, in %s", str(dtype))
        found.append((weight, groups[0][index].moves, groups[0][index].groups * len(groups)))

    def compose(pen: Build, data: ir.Value) -> ir.Value:
        made = data
        for place, (weight, moves, parts) in enumerate(found):
            added = site.bias if place == len(found) - 1 else None
            made = _conv(pen, site, made, weight, added, moves, parts)
        return made

    return Composed(Place(site), Way(form, compose))


def _conv(pen: Build, site: Site, data: ir.Value, weight: np.ndarray, added: ir.Value | None, moves: Sequence[bool], groups: int) -> ir.Value:
    """A convolution that moves along some axes as the site does, with no padding and steps of 1 along the others."""
    axes = len(moves)
    strides, dilations = (_ints(site, name, axes) for name in ("strides", "dilations"))
    pads = list(attribute(site.node, "pads") or [0] * 2 * axes)  # type: ignore[call-overload]
    auto = str(attribute(site.node, "auto_pad", "NOTSET"))
    here: dict[str, object] = {
        "kernel_shape": list(weight.shape[2:]),
        "strides": [size if moving else 1 for size, moving in zip(strides, moves, strict=True)],
        "dilations": [size if moving else 1 for size, moving in zip(dilations, moves, strict=True)],
        "group": groups,
    }
    if auto == "NOTSET":
        here["pads"] = [size if moves[place % axes] else 0 for place, size in enumerate(pads)]
    else:
        here["auto_pad"] = auto
    return pen.Conv(data, pen.const(np.ascontiguousarray(weight), "factor"), added, **here)  # type: ignore[return-value]


def _ints(site: Site, name: str, axes: int) -> list[int]:
    return list(attribute(site.node, name) or [1] * axes)  # type: ignore[call-overload]


def _all_taps(pen: Build, site: Site, data: ir.Value, matrices: np.ndarray, added: ir.Value | None) -> ir.Value:
    """The site's own convolution with matrices [groups, rows, columns] for its kernel."""
    groups, rows, columns = matrices.shape
    if site.kind == "Conv":
        weight = matrices.transpose(0, 2, 1).reshape(groups * columns, site.shape[1], *site.shape[2:])
    else:
        weight = matrices.reshape(groups * rows, site.shape[1], *site.shape[2:])
    return pen.like(site.node, data, pen.const(np.ascontiguousarray(weight), "factor"), added)  # type: ignore[return-value]


def _one_tap(pen: Build, site: Site, data: ir.Value, matrices: np.ndarray, added: ir.Value | None) -> ir.Value:
    """A convolution of one tap with matrices [groups, rows, columns]."""
    groups, rows, columns = matrices.shape
    axes = len(site.shape) - 2
    weight = matrices.transpose(0, 2, 1).reshape(groups * columns, rows, *[1] * axes)
    return pen.Conv(data, pen.const(np.ascontiguousarray(weight), "factor"), added, kernel_shape=[1] * axes, group=groups)  # type: ignore[return-value]


def _times(pen: Build, data: ir.Value, matrix: np.ndarray, flipped: bool) -> ir.Value:
    if flipped:
        return pen.MatMul(pen.const(np.ascontiguousarray(matrix.T), "factor"), data)  # type: ignore[return-value]
    return pen.MatMul(data, pen.const(matrix, "factor"))  # type: ignore[return-value]


def _dtype(site: Site) -> np.dtype:
    tensor = constant(site.weight)
    assert tensor is not None
    return tensor.dtype.numpy()
