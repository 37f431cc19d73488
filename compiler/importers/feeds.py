"""Example inputs as the caller has them, turned into what a graph is fed: input name -> array."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import onnx_ir as ir

from ..core.backend import Array, Sample
from ..core.errors import InputError
from ..tensors import to_numpy


def arranger(model: ir.Model) -> Callable[..., Sample]:
    """A function that takes a call's arguments, in the order of the graph's inputs or by their names, and returns the sample.

    It raises InputError when they do not fit the graph.
    """
    ports = list(model.graph.inputs)
    optional = {value.name for value in ports if value.is_initializer()}

    def arrange(*args: object, **kwargs: object) -> Sample:
        return _arrange(ports, optional, args, kwargs)

    return arrange


def to_samples(model: ir.Model, example_inputs: object) -> tuple[Sample, ...]:
    """Example inputs as samples: None, one sample (a mapping by name, or values in order), or a list of samples. Raises InputError."""
    if example_inputs is None:
        return ()
    arrange = arranger(model)
    if isinstance(example_inputs, list) and example_inputs and all(isinstance(item, (Mapping, tuple)) for item in example_inputs):
        return tuple(_one(arrange, item) for item in example_inputs)
    return (_one(arrange, example_inputs),)


def _one(arrange: Callable[..., Sample], item: object) -> Sample:
    if isinstance(item, Mapping):
        if not all(isinstance(name, str) for name in item):
            raise InputError("example inputs in a mapping are named by texts: {input name: array}")
        return arrange(**item)
    return arrange(*item) if isinstance(item, (tuple, list)) else arrange(item)


def _arrange(ports: Sequence[ir.Value], optional: Iterable[str | None], args: tuple[object, ...], kwargs: Mapping[str, object]) -> Sample:
    names = [port.name or "" for port in ports]
    if len(args) > len(names):
        raise InputError(f"the model takes {len(names)} inputs ({', '.join(names)}), not {len(args)}")
    given = dict(zip(names, args, strict=False))
    for name, value in kwargs.items():
        if name not in names:
            raise InputError(f"the model has no input '{name}'; its inputs are: {', '.join(names)}")
        if name in given:
            raise InputError(f"the input '{name}' is given twice, by position and by name")
        given[name] = value
    missing = [port.name for port in ports if port.name not in given and port.name not in optional and not isinstance(port.type, ir.OptionalType)]
    if missing:
        raise InputError(f"the input '{missing[0]}' is missing; the model takes: {', '.join(names)}")
    sizes: dict[str, tuple[int, str]] = {}
    return {port.name or "": _fit(port, given[port.name or ""], sizes) for port in ports if port.name in given}


def _fit(port: ir.Value, value: object, sizes: dict[str, tuple[int, str]]) -> Array:
    """The value as the input takes it; ``sizes`` holds what size each symbol has in this sample so far, and where."""
    kind = port.type
    if isinstance(kind, ir.OptionalType):
        if value is None:
            return None
        kind = kind.elem_type
    if value is None:
        raise InputError(f"the input '{port.name}' is None, but the model needs it")
    if isinstance(kind, ir.SequenceType):
        if not isinstance(value, (list, tuple)):
            raise InputError(f"the input '{port.name}' is a sequence: give a list of arrays, not a {type(value).__name__}")
        return [_as_array(port, kind.elem_type, item) for item in value]
    array = _as_array(port, kind, value)
    _check_shape(port, array, sizes)
    return array


def _as_array(port: ir.Value, kind: ir.TypeProtocol | None, value: object) -> np.ndarray:
    is_typed = isinstance(value, (np.ndarray, np.generic)) or hasattr(value, "detach")
    try:
        array = np.asarray(to_numpy(value))
    except (ValueError, TypeError, RuntimeError) as error:
        raise InputError(f"the input '{port.name}' cannot be read as an array: {error}") from None
    if not isinstance(kind, ir.TensorType):
        return array
    if kind.dtype == ir.DataType.STRING:
        if array.dtype.kind not in "OSU":
            raise InputError(f"the input '{port.name}' takes texts, not {array.dtype}")
        return array.astype(object)
    wanted = np.dtype(kind.dtype.numpy())
    if array.dtype == wanted:
        return array
    if is_typed or array.dtype.kind not in "biuf" or (array.dtype.kind == "f" and wanted.kind in "iub"):
        raise InputError(f"the input '{port.name}' takes {wanted}, not {array.dtype}: convert it with .astype('{wanted}')")
    return array.astype(wanted)


def _check_shape(port: ir.Value, array: np.ndarray, sizes: dict[str, tuple[int, str]]) -> None:
    if port.shape is None:
        return
    declared = [dim if isinstance(dim, int) else dim.value or "?" for dim in port.shape]
    if len(declared) != array.ndim:
        raise InputError(f"the input '{port.name}' has {len(declared)} dimensions ({_shown(declared)}), not {array.ndim} ({_shown(array.shape)})")
    for dim, size in zip(declared, array.shape, strict=True):
        if isinstance(dim, int) and dim != size:
            raise InputError(f"the input '{port.name}' has the shape {_shown(declared)}, which {_shown(array.shape)} does not fit")
        if isinstance(dim, str) and dim != "?":
            known, where = sizes.setdefault(dim, (size, port.name or ""))
            if known != size:
                raise InputError(f"the dimension '{dim}' is {known} in the input '{where}' but {size} in '{port.name}'")


def _shown(dims: Iterable[object]) -> str:
    return f"[{', '.join(map(str, dims))}]"
