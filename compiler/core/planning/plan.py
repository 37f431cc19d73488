"""What a fusion plan is: blocks of operators, each to become one kernel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import onnx_ir as ir

from ..graph import constant
from .mapping import Mapping


class Profile(Protocol):
    """What is known of how long kernels take."""

    def cost(self, nodes: Sequence[ir.Node]) -> float | None:
        """Seconds that ``nodes``, in topological order, take as one kernel; None when that was never measured."""
        ...


@dataclass(frozen=True)
class Constraints:
    """What one kernel may be.

    ``operators`` and ``inputs`` (weights included) bound its size, ``live_bytes`` the intermediate results that are alive at once for one tile where
    operators are joined tile by tile. ``repeated`` bounds the arithmetic (additions for each element) that may come before an operator that reads its
    input many times over (a Conv or MatMul): generated code does it again for each reading. 0 leaves all arithmetic to the end of the operator before.
    ``deep`` also joins a MatMul with what works on its whole rows (LayerNormalization before or behind it), tile by tile, where nothing was measured.
    ``bands`` joins whole blocks that work on the same band of rows of an image, or are too little work for several threads (see `bands`).
    """

    operators: int = 64
    inputs: int = 64
    live_bytes: int = 1 << 18
    repeated: int = 4
    deep: bool = False
    bands: bool = False


@dataclass(frozen=True)
class Step:
    """One operator taken into a block, and why: ``way`` is "seed", "behind" or "before"."""

    node: ir.Node
    way: str
    reason: str


@dataclass(frozen=True)
class Refusal:
    """A neighbour that a block did not take, and why."""

    node: ir.Node
    reason: str


@dataclass(frozen=True)
class Block:
    """Operators of one graph that become one kernel; ``nodes`` in topological order. An operator that stays alone is a block of one.

    ``inputs`` are the values read from outside, each once, computed ones before constants; ``outputs`` those that somebody outside reads.
    ``saved_values`` counts the intermediate results that are no longer stored, ``saved_bytes`` the room they take where every unknown size is 1.
    """

    nodes: tuple[ir.Node, ...]
    mapping: Mapping
    inputs: tuple[ir.Value, ...]
    outputs: tuple[ir.Value, ...]
    steps: tuple[Step, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    saved_bytes: int = 0
    saved_values: int = 0

    @property
    def seed(self) -> ir.Node:
        """The operator it grew from."""
        return self.steps[0].node if self.steps else self.nodes[0]

    @property
    def title(self) -> str:
        """Its operators, as in ``MatMul+Add+Relu``."""
        return "+".join(node.op_type for node in self.nodes)

    @property
    def fused(self) -> bool:
        """Whether it has more than one operator."""
        return len(self.nodes) > 1

    @property
    def reason(self) -> str:
        """Why the block is as it is: what was taken, and what stopped it."""
        taken = [f"{step.node.op_type}: {step.reason}" for step in self.steps]
        left = list(dict.fromkeys(f"not {refusal.node.op_type}: {refusal.reason}" for refusal in self.refusals))
        return "; ".join((*taken, *left))


@dataclass(frozen=True)
class Plan:
    """Blocks that hold each node of one graph exactly once, in an order in which they can run. Nodes of nested graphs are in plans of their own."""

    graph: ir.Graph
    blocks: tuple[Block, ...]
    constraints: Constraints = field(default_factory=Constraints)

    @property
    def operators(self) -> int:
        """How many operators are planned; a node that only holds a constant is none."""
        return sum(not is_constant(node) for block in self.blocks for node in block.nodes)

    @property
    def kernels(self) -> int:
        """How many kernels they become."""
        return sum(not all(map(is_constant, block.nodes)) for block in self.blocks)

    @property
    def rate(self) -> float:
        """Operators by kernels."""
        return self.operators / self.kernels if self.kernels else 1.0

    @property
    def saved_bytes(self) -> int:
        """Intermediate results that are no longer stored, where every unknown size is 1."""
        return sum(block.saved_bytes for block in self.blocks)

    def block_of(self, node: ir.Node) -> Block:
        """The block that holds a node. Raises KeyError when it is not of this graph."""
        for block in self.blocks:
            if node in block.nodes:
                return block
        raise KeyError(node)


def is_constant(node: ir.Node) -> bool:
    """Whether a node only holds a constant."""
    return node.op_type == "Constant" and constant(node.outputs[0]) is not None


def border(nodes: Sequence[ir.Node]) -> tuple[tuple[ir.Value, ...], tuple[ir.Value, ...]]:
    """What ``nodes`` read from outside (computed values before constants) and what others read of theirs, or the graph gives out.

    A node must not hold graphs: what those read is not looked at.
    """
    inside = set(nodes)
    read = dict.fromkeys(value for node in nodes for value in node.inputs if value is not None and value.producer() not in inside)
    made = [value for node in nodes for value in node.outputs]
    wanted = [value for value in made if value.is_graph_output() or any(user not in inside for user, _ in value.uses())]
    ordered = [value for value in read if constant(value) is None] + [value for value in read if constant(value) is not None]
    return tuple(ordered), tuple(wanted)
