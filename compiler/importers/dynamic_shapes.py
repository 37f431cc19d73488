"""Dynamic dimensions as torch.export has them, for each tensor of a call on its own."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence

import torch
from torch.utils import _pytree as pytree

from ..core.errors import InputError
from .calls import Call

AxisSpec = dict[int, object]
"""Axis -> name, torch.export.Dim, or what else torch.export takes; axes that stay fixed are left out."""


def axes_of(call: Call, dynamic_shapes: object, module: torch.nn.Module) -> list[AxisSpec] | None:
    """The dynamic axes of each tensor of the call, in order; None when none were asked for. Raises InputError where they do not fit the arguments."""
    if dynamic_shapes is None:
        return None
    if hasattr(dynamic_shapes, "dynamic_shapes"):
        bound = inspect.BoundArguments(call.signature, call.arguments)
        dynamic_shapes = dynamic_shapes.dynamic_shapes(module, bound.args, bound.kwargs)
    found: list[AxisSpec] = []
    for (name, value), spec in zip(call.arguments.items(), _by_argument(call, dynamic_shapes), strict=True):
        _walk(value, spec, name, found)
    return found


def _by_argument(call: Call, dynamic_shapes: object) -> list[object]:
    names = list(call.arguments)
    if isinstance(dynamic_shapes, Mapping):
        extra = next((name for name, item in call.signature.parameters.items() if item.kind is item.VAR_KEYWORD), None)
        loose = {name: spec for name, spec in dynamic_shapes.items() if name not in names}
        if loose and extra is None:
            raise InputError(f"dynamic_shapes speaks of '{next(iter(loose))}', but the module takes: {', '.join(names)}")
        return [dynamic_shapes.get(name, loose if name == extra else None) for name in names]
    if not isinstance(dynamic_shapes, (tuple, list)):
        raise InputError(f"dynamic_shapes is a {type(dynamic_shapes).__name__}; it takes a dict by argument, or a tuple in their order")
    if len(dynamic_shapes) > len(names):
        raise InputError(f"dynamic_shapes has {len(dynamic_shapes)} entries, but the module takes {len(names)} arguments: {', '.join(names)}")
    return [*dynamic_shapes, *[None] * (len(names) - len(dynamic_shapes))]


def _walk(value: object, spec: object, where: str, found: list[AxisSpec]) -> None:
    """Side by side through an argument and its part of dynamic_shapes."""
    if isinstance(value, torch.Tensor) or hasattr(value, "__array_interface__"):
        found.append(_axes(spec, where, value.ndim))  # type: ignore[attr-defined]
        return
    children, _ = pytree.tree_flatten(value, is_leaf=lambda item: item is not value)
    if len(children) == 1 and children[0] is value:
        return
    keys: Sequence[object] = list(value) if isinstance(value, Mapping) else range(len(children))
    for key, child in zip(keys, children, strict=True):
        _walk(child, _part(spec, key, len(children), where), f"{where}.{key}", found)


def _part(spec: object, key: object, count: int, where: str) -> object:
    if spec is None:
        return None
    if isinstance(spec, Mapping):
        return spec.get(key)
    if isinstance(spec, (tuple, list)) and isinstance(key, int) and len(spec) == count:
        return spec[key]
    raise InputError(f"dynamic_shapes does not have the structure of the argument '{where}'")


def _axes(spec: object, where: str, rank: int) -> AxisSpec:
    if spec is None:
        return {}
    items = spec.items() if isinstance(spec, Mapping) else enumerate(spec) if isinstance(spec, (tuple, list)) else None
    if items is None:
        raise InputError(f"dynamic_shapes gives '{where}' a {type(spec).__name__}; a tensor takes {{axis: name}}")
    axes = {axis: dim for axis, dim in items if dim is not None and not isinstance(dim, int) and dim is not torch.export.Dim.STATIC}
    wrong = next((axis for axis in axes if not isinstance(axis, int) or not -rank <= axis < rank), None)
    if wrong is not None:
        raise InputError(f"dynamic_shapes gives '{where}' the axis {wrong!r}, but it has {rank} dimensions")
    return {axis % rank: dim for axis, dim in axes.items()}


def axis_names(axes: AxisSpec, name: str) -> dict[int, str]:
    """Each dynamic axis with the name it has in ONNX."""
    return {axis: dim if isinstance(dim, str) else getattr(dim, "__name__", f"{name}_dim_{axis}") for axis, dim in axes.items()}
