"""A piece of an ONNX graph as a function of torch tensors."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from ...compiler.core.errors import InputError, TargetError
from ...compiler.core.graph import constant, is_op, node_label
from ...compiler.core.target import STANDARD_DOMAINS
from .operators import elementwise, movement, norms, products, recurrent, reductions, resizing, rounding, windows
from .operators.call import Call, Operator
from .torch_there import device, full_precision, need_torch

if TYPE_CHECKING:
    import torch

    Tensors = Mapping[str, torch.Tensor]

__all__ = ["TorchGraph", "known_operators"]

CONVOLUTIONS = ("Conv", "ConvTranspose")
FAMILIES = (elementwise, products, reductions, norms, movement, rounding, windows, recurrent, resizing)


class TorchGraph:
    """Nodes of a graph that torch runs, and differentiates with respect to anything that is a tensor of it.

        graph = TorchGraph.of(model)
        weight = graph.constants["fc.weight"].clone().requires_grad_()
        loss = graph.run(feeds, {"fc.weight": weight})["logits"].square().mean()

    ``constants`` has the constants that the nodes read, and the initialisers that may be fed, by name: tensors on the device. A run changes nothing of it.
    Of an If the branch that is taken runs; those of branches are not among ``constants``.
    Raises BackendMissing when torch is not installed, TargetError naming the first operator that is not known.
    """

    def __init__(self, nodes: Sequence[ir.Node], outputs: Iterable[ir.Value], where: str | None = None) -> None:
        need_torch()
        self.device = where or device()
        self.outputs = tuple(outputs)
        nodes = [node for node in nodes if not is_op(node, "Constant")]
        self._steps = [(node, Call(node), _operator(node)) for node in nodes]
        self._branches = {node: _branches(node, self.device) for node in nodes if is_op(node, "If")}
        self.constants = _constants(nodes, self.outputs, self.device)
        reads = {node: [*node.inputs, *(value for branch in self._branches.get(node, ()) for value in branch.inputs)] for node in nodes}
        self._freed = _last_uses(reads, self.outputs)
        made = {value for node in nodes for value in node.outputs}
        used = [*(value for node in nodes for value in reads[node]), *self.outputs]
        read = [value for value in used if value is not None and value not in made and value.name not in self.constants]
        self.inputs: tuple[ir.Value, ...] = tuple(dict.fromkeys(read))

    @classmethod
    def of(cls, model: ir.Model, where: str | None = None) -> TorchGraph:
        """A whole model."""
        return cls(list(model.graph), model.graph.outputs, where)

    def run(
        self, feeds: Tensors, constants: Tensors | None = None, taps: Mapping[str, Callable[[torch.Tensor], torch.Tensor]] | None = None
    ) -> dict[str, torch.Tensor]:
        """The outputs by name. ``constants`` take the place of the graph's own; a tap sees what is called by its name and says what it is from there on."""
        held: dict[str, torch.Tensor] = {**self.constants, **feeds, **(constants or {})}
        missing = [value.name for value in self.inputs if value.name not in held]
        if missing:
            raise InputError(f"this part of the model also needs '{missing[0]}'")
        taps = taps or {}
        for name in feeds:
            if name in taps:
                held[name] = taps[name](held[name])
        for (node, call, operator), done in zip(self._steps, self._freed, strict=True):
            with full_precision() if node.op_type in CONVOLUTIONS else contextlib.nullcontext():
                if node in self._branches:
                    found = self._taken(node, held)
                else:
                    found = operator(call, *(None if value is None else held[value.name or ""] for value in node.inputs))
            for value, tensor in zip(node.outputs, found if isinstance(found, tuple) else (found,), strict=False):
                tap = taps.get(value.name or "")
                held[value.name or ""] = tensor.to(self.device) if tap is None else tap(tensor.to(self.device))
            for name in done:
                held.pop(name, None)
        return {value.name or "": held[value.name or ""] for value in self.outputs}

    def _taken(self, node: ir.Node, held: dict[str, torch.Tensor]) -> tuple[torch.Tensor, ...]:
        """The outputs of the branch of an If that its condition takes."""
        condition = node.inputs[0]
        assert condition is not None
        branch = self._branches[node][0 if bool(held[condition.name or ""]) else 1]
        made = branch.run({value.name or "": held[value.name or ""] for value in branch.inputs})
        return tuple(made[value.name or ""] for value in branch.outputs)

    def numpy(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The outputs for arrays, without gradients."""
        import torch

        with torch.no_grad():
            found = self.run({name: torch.from_numpy(np.array(content, order="C")).to(self.device) for name, content in feeds.items()})
        return {name: tensor.cpu().numpy() for name, tensor in found.items()}


def known_operators() -> tuple[str, ...]:
    """The standard operators that are computed here. Raises BackendMissing when torch is not installed."""
    need_torch()
    return tuple(sorted([*_known(), "If"]))


@functools.cache
def _known() -> dict[str, Operator]:
    return {name: operator for family in FAMILIES for name, operator in family.operators().items()}


def _branches(node: ir.Node, where: str) -> tuple[TorchGraph, TorchGraph]:
    """Both branches of an If, as graphs that read what they need of the one around them."""
    graphs = (node.attributes["then_branch"].as_graph(), node.attributes["else_branch"].as_graph())
    first, second = (TorchGraph(list(graph), graph.outputs, where) for graph in graphs)
    return first, second


def _operator(node: ir.Node) -> Operator:
    if is_op(node, "If"):
        return _unused
    found = _known().get(node.op_type) if node.domain in STANDARD_DOMAINS else None
    if found is None:
        raise TargetError(f"{node.op_identifier()[0] or 'ai.onnx'}::{node.op_type} cannot be differentiated here ({node_label(node)}): leave that part out")
    return found


def _unused(call: Call, *inputs: torch.Tensor) -> torch.Tensor:
    raise call.refuse("the condition")


def _constants(nodes: Sequence[ir.Node], outputs: Iterable[ir.Value], where: str) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = {}
    for value in [*(value for node in nodes for value in node.inputs), *outputs]:
        if value is None or value.name in found or not value.name:
            continue
        tensor = value.const_value if value.is_initializer() else constant(value)
        if tensor is not None and tensor.dtype is not ir.DataType.STRING:
            found[value.name] = _tensor(tensor.numpy()).to(where)
    return found


def _tensor(content: np.ndarray) -> torch.Tensor:
    """A copy; numbers of types that only ONNX has become the next wider ones that torch has."""
    import torch

    name = content.dtype.name
    if name == "bfloat16":
        return torch.from_numpy(content.astype(np.float32)).to(torch.bfloat16)
    wider = {"int4": np.int8, "uint4": np.uint8, "int2": np.int8, "uint2": np.uint8}.get(name, np.float32 if name.startswith("float8") else None)
    return torch.from_numpy(np.array(content, dtype=wider))


def _last_uses(reads: Mapping[ir.Node, Sequence[ir.Value | None]], outputs: Iterable[ir.Value]) -> list[list[str]]:
    """For each node, the values that nothing after it reads."""
    needed = {value.name for value in outputs}
    freed: list[list[str]] = []
    for node in reversed(list(reads)):
        names = [value.name for value in [*reads[node], *node.outputs] if value is not None and value.name]
        freed.append([name for name in dict.fromkeys(names) if name not in needed])
        needed.update(names)
    return freed[::-1]
