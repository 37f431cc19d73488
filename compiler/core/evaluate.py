"""Working out constant parts of a graph, with ONNX Runtime where it can and ONNX's reference implementation where not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import onnx_ir as ir

from .graph import constant
from .recipe import NoKernel, Recipe
from .shapes import known_bytes

Constants = Mapping[ir.Value, ir.TensorProtocol]
Found = dict[ir.Value, ir.TensorProtocol]

IN_MEMORY_BYTES = 2**28
"""Results are worked out and kept while they fit in this; those beyond it are worked out whenever they are read."""


def evaluate(nodes: Sequence[ir.Node], wanted: Sequence[ir.Value], in_memory: int = IN_MEMORY_BYTES) -> Found:
    """The tensors that ``nodes``, in an order they can run in, make of constants: those ``wanted`` that can be worked out.

    All nodes run in one session. A node that no runtime here can run, and what depends on it, is left out. Of results that together take more than
    ``in_memory`` bytes, the last are made anew each time they are read, so that the weights of a large model are never all in memory.
    """
    now, later = _split(list(dict.fromkeys(wanted)), in_memory)
    found: Found = {}
    _evaluate(_needed(nodes, now), now, found, set())
    for value in later:
        tensor = _lazily(_needed(nodes, [value]), value)
        if tensor is not None:
            found[value] = tensor
    return {value: found[value] for value in wanted if value in found}


def _split(wanted: Sequence[ir.Value], in_memory: int) -> tuple[list[ir.Value], list[ir.Value]]:
    now: list[ir.Value] = []
    later: list[ir.Value] = []
    total = 0
    for value in wanted:
        size = known_bytes(value) or 0
        total += size
        (later if size and total > in_memory else now).append(value)
    return now, later


def _needed(nodes: Sequence[ir.Node], wanted: Iterable[ir.Value]) -> list[ir.Node]:
    """Those among the nodes that the wanted values depend on."""
    needed = {value.producer() for value in wanted}
    for node in reversed(nodes):
        if node in needed:
            needed.update(value.producer() for value in node.inputs if value is not None)
    return [node for node in nodes if node in needed]


def _lazily(nodes: Sequence[ir.Node], value: ir.Value) -> ir.TensorProtocol | None:
    """A tensor that is made anew each time it is read; None when no kernel takes the nodes."""
    assert value.dtype is not None and value.shape is not None
    recipe = Recipe(nodes, [value], _leaves(nodes, {}))
    try:
        recipe.session()
    except Exception:  # noqa: BLE001 (see _results)
        return None
    return ir.LazyTensor(lambda: recipe.run()[0], dtype=value.dtype, shape=ir.Shape(value.shape.dims), name=value.name)


def _evaluate(nodes: list[ir.Node], wanted: list[ir.Value], found: Found, lost: set[ir.Value]) -> None:
    """Fill ``found``; when the whole fails, its halves, down to the single node that cannot be run."""
    nodes = _runnable(nodes, lost)
    made = {value for node in nodes for value in node.outputs}
    wanted = [value for value in wanted if value in made]
    if not wanted:
        return
    results = _results(Recipe(nodes, wanted, _leaves(nodes, found)), wanted, alone=len(nodes) == 1)
    if results is not None:
        found.update(results)
    elif len(nodes) == 1:
        lost.update(nodes[0].outputs)
    else:
        first, second = nodes[: len(nodes) // 2], nodes[len(nodes) // 2 :]
        _evaluate(first, list(dict.fromkeys([*wanted, *_crossing(first, second)])), found, lost)
        _evaluate(second, wanted, found, lost)


def _runnable(nodes: list[ir.Node], lost: set[ir.Value]) -> list[ir.Node]:
    """The nodes that depend on nothing lost; the outputs of the others are lost too."""
    kept = []
    for node in nodes:
        if any(value in lost for value in node.inputs if value is not None):
            lost.update(node.outputs)
        else:
            kept.append(node)
    return kept


def _crossing(first: list[ir.Node], second: list[ir.Node]) -> list[ir.Value]:
    made = {value for node in first for value in node.outputs}
    return [value for node in second for value in node.inputs if value is not None and value in made]


def _results(recipe: Recipe, wanted: Sequence[ir.Value], alone: bool) -> Found | None:
    """What the recipe makes; None when it cannot be run. The reference steps in for a single node that has no kernel."""
    try:
        with np.errstate(all="ignore"):
            return dict(zip(wanted, _made(recipe, alone), strict=True))
    except Exception:  # noqa: BLE001 (each runtime has exceptions of its own for a node that refuses its inputs)
        return None


def _made(recipe: Recipe, alone: bool) -> list[ir.TensorProtocol]:
    try:
        return recipe.run()
    except NoKernel:
        if not alone:
            raise
        return recipe.run_reference()


def _leaves(nodes: Sequence[ir.Node], known: Constants) -> Found:
    """The constants that the nodes read."""
    made = {value for node in nodes for value in node.outputs}
    leaves: Found = {}
    for node in nodes:
        for value in node.inputs:
            if value is None or value in made or value in leaves:
                continue
            tensor = known[value] if value in known else constant(value)
            if tensor is None:
                raise ValueError(f"'{value.name}' is no constant")
            leaves[value] = tensor
    return leaves
