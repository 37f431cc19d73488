"""How a torch module is called: its arguments and results, however nested, as flat lists of named tensors."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.utils import _pytree as pytree

from ..core.errors import InputError


@dataclass(frozen=True)
class Leaf:
    """One tensor of a nested structure, and where it is: ``states.0``."""

    name: str
    tensor: torch.Tensor


@dataclass(frozen=True)
class Structure:
    """A nested structure taken apart. ``constants`` has what is no tensor, by position among all leaves."""

    spec: pytree.TreeSpec
    leaves: tuple[Leaf, ...]
    places: tuple[int, ...]
    constants: Mapping[int, object]

    def rebuild(self, values: Sequence[object]) -> object:
        """The structure with ``values`` in place of its tensors."""
        if len(values) != len(self.places):
            raise InputError(f"{len(self.places)} values are needed to put the structure together, not {len(values)}")
        items = [self.constants.get(index) for index in range(self.spec.num_leaves)]
        for index, value in zip(self.places, values, strict=True):
            items[index] = value
        return pytree.tree_unflatten(items, self.spec)


def take_apart(value: object, top: str = "", places: Collection[int] | None = None) -> Structure:
    """Name and list the tensors in ``value``; arrays count as tensors. ``top`` names what has no key of its own.

    ``places`` says which leaves count instead, by position among all of them.
    """
    items, spec = pytree.tree_flatten_with_path(value)
    leaves, chosen, constants = [], [], {}
    for index, (path, item) in enumerate(items):
        if index in places if places is not None else isinstance(item, (torch.Tensor, np.ndarray)):
            leaves.append(Leaf(_name(path, top), torch.as_tensor(item)))
            chosen.append(index)
        else:
            constants[index] = item
    return Structure(spec, tuple(leaves), tuple(chosen), constants)


def _name(path: Sequence[object], top: str) -> str:
    keys = [str(next((getattr(key, field) for field in ("key", "idx", "name") if hasattr(key, field)), key)) for key in path]
    if not keys or keys[0].isdigit():
        keys.insert(0, top)
    return ".".join(filter(None, keys))


class Call:
    """One way to call a module: by arguments of these types and, where they are no tensors, of these values."""

    def __init__(self, signature: inspect.Signature, args: Sequence[object], kwargs: Mapping[str, object], places: Collection[int] | None = None) -> None:
        self.signature = signature
        self.places = places
        self.arguments = self.bind(args, kwargs)
        self.given = frozenset(signature.bind(*args, **kwargs).arguments)
        self.structure = take_apart(self.arguments, places=places)

    def bind(self, args: Sequence[object], kwargs: Mapping[str, object]) -> dict[str, object]:
        """Every argument by the name of its parameter, defaults included. Raises InputError when they do not fit."""
        try:
            bound = self.signature.bind(*args, **kwargs)
        except TypeError as error:
            raise InputError(f"the module is not called like this: {error}; it takes {self.signature}") from None
        bound.apply_defaults()
        keyword = next((name for name, item in self.signature.parameters.items() if item.kind is item.VAR_KEYWORD), "")
        return {name: dict(sorted(value.items())) if name == keyword else value for name, value in bound.arguments.items()}

    def invoke(self, function: Callable[..., object], tensors: Sequence[object]) -> object:
        """Call ``function`` with ``tensors`` in place of the tensors. Arguments that were left out are left out again: a decorator may mind."""
        arguments = self.structure.rebuild(tensors)
        bound = inspect.BoundArguments(self.signature, {name: value for name, value in arguments.items() if name in self.given})  # type: ignore[attr-defined]
        return function(*bound.args, **bound.kwargs)

    def tensors(self, args: Sequence[object], kwargs: Mapping[str, object]) -> list[torch.Tensor]:
        """The tensors of another call, in order. Raises InputError when it is another kind of call."""
        given = take_apart(self.bind(args, kwargs), places=self.places)
        if given.spec != self.structure.spec or given.places != self.structure.places:
            wanted, got = [leaf.name for leaf in self.structure.leaves], [leaf.name for leaf in given.leaves]
            raise InputError(f"the module was exported for the tensors {wanted}, but is called with {got}")
        for index, value in given.constants.items():
            known = self.structure.constants[index]
            if type(value) is not type(known) or value != known:
                raise InputError(f"the module was exported with the constant {known!r}, but is called with {value!r}: export it again for that")
        return [leaf.tensor for leaf in given.leaves]


def signature_of(module: torch.nn.Module) -> inspect.Signature:
    """What a module's forward takes."""
    try:
        return inspect.signature(module.forward)
    except (TypeError, ValueError):
        return inspect.signature(lambda *args, **kwargs: None)


def split_examples(example_inputs: object) -> tuple[tuple[object, ...], dict[str, object]]:
    """Example inputs as (args, kwargs): a tuple or list is positional, a mapping goes by keyword, a pair of both is both, all else is one argument."""
    if example_inputs is None:
        raise InputError("a torch module needs example inputs: a tuple of its arguments, or a dict of its keyword arguments")
    if isinstance(example_inputs, Mapping):
        return (), dict(example_inputs)
    if (
        isinstance(example_inputs, tuple)
        and len(example_inputs) == 2
        and isinstance(example_inputs[0], (tuple, list))
        and isinstance(example_inputs[1], Mapping)
    ):
        return tuple(example_inputs[0]), dict(example_inputs[1])
    return tuple(example_inputs) if isinstance(example_inputs, (tuple, list)) else (example_inputs,), {}


def unique_names(names: Sequence[str], taken: Sequence[str] = ()) -> list[str]:
    """The names, with a number where one comes twice or is taken."""
    seen, result = set(taken), []
    for name in names:
        fresh, number = name, 1
        while fresh in seen:
            fresh, number = f"{name}_{number}", number + 1
        seen.add(fresh)
        result.append(fresh)
    return result
