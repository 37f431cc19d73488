"""Which operators compute on integers, and which values share a scale because their codes are only moved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import onnx_ir as ir

from ...compiler.core.graph import array, attribute, constant, is_op, producer, scalar, users
from ...compiler.core.sites import Site

__all__ = ["CLAMPS", "MOVES", "Placement", "place", "quantised_inputs", "read_roots", "why_float"]

MIXES = ("Add", "Mul", "Concat", "AveragePool", "GlobalAveragePool", "LeakyRelu", "Sigmoid")
"""What has a kernel that takes codes with one scale and gives codes with another."""
MOVES = (
    "MaxPool", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Split", "Slice", "Gather", "Resize", "Pad", "DepthToSpace", "SpaceToDepth",
    "Expand", "Tile", "Identity", "Relu", "Clip",
)  # fmt: skip
"""What moves, picks or bounds elements: it does the same to their codes."""
NARROW_MOVES = ("MaxPool", "Clip", "Relu", "Resize", "Pad", "DepthToSpace", "SpaceToDepth")
"""Moves that take no codes of 16 bits."""
CLAMPS = ("Relu", "Clip")
FIXED = ("Conv",)
"""Sites whose integer kernels give codes only."""
FLOAT = ir.DataType.FLOAT


@dataclass
class Placement:
    """What `place` decided.

    ``sites`` and ``mixes`` compute on codes, ``moves`` move them; ``clamps`` maps an operator that gives codes to the Relu or Clip right after it that
    bounds them. ``sources`` are the values that get a scale of their own; ``roots`` maps every value that has codes to the one whose scale it has.
    """

    sites: dict[ir.Node, Site]
    mixes: set[ir.Node] = field(default_factory=set)
    moves: set[ir.Node] = field(default_factory=set)
    clamps: dict[ir.Node, ir.Node] = field(default_factory=dict)
    coded: dict[ir.Value, None] = field(default_factory=dict)
    roots: dict[ir.Value, ir.Value] = field(default_factory=dict)

    @property
    def integer(self) -> set[ir.Node]:
        """Every operator that reads codes."""
        return {*self.sites, *self.mixes, *self.moves}

    def gives_codes(self, node: ir.Node) -> bool:
        """Whether the kernel of an operator that computes on integers gives integers too."""
        return node in self.mixes or (node in self.sites and is_op(node, *FIXED))

    def result(self, node: ir.Node) -> ir.Value:
        """What an operator makes, bounded by the clamp that was taken into its range."""
        return (self.clamps.get(node) or node).outputs[0]

    def root(self, value: ir.Value) -> ir.Value:
        """The value whose scale this one has."""
        while self.roots.get(value, value) is not value:
            value = self.roots[value]
        return value

    def groups(self) -> dict[ir.Value, list[ir.Value]]:
        """For each root the values to be calibrated for its scale: those of its group that are not moved from another."""
        found: dict[ir.Value, list[ir.Value]] = {}
        for value in self.coded:
            members = found.setdefault(self.root(value), [])
            if value.producer() not in self.moves:
                members.append(value)
        return found


def place(graph: ir.Graph, sites: Sequence[Site], *, types: frozenset[str] | None = None, join: bool = False, wide: bool = False) -> Placement:
    """Decide which operators around these sites compute on integers.

    ``types`` narrows what may, besides sites; ``join`` lets what a Concat joins share a scale; with ``wide`` codes have 16 bits.

    An operator between sites does when what it reads has codes anyway and a site, or another such operator, reads its result: nothing on the way from
    the last site to an output is quantised once more.
    """
    found = Placement({site.node: site for site in sites})
    allowed = {node for node in graph if _may(node, types) and not (wide and is_op(node, *NARROW_MOVES))}
    wanted = _heading_to_sites(graph, found, allowed)
    _settle(graph, found, wanted)
    _note_codes(graph, found)
    _share_scales(found, join)
    return found


def quantised_inputs(node: ir.Node, found: Placement) -> list[int]:
    """The inputs of an integer operator that are codes."""
    if node in found.sites:
        return [1 - found.sites[node].weight_at]
    if is_op(node, "Add", "Mul"):
        return [0, 1]
    return list(range(len(node.inputs))) if is_op(node, "Concat") else [0]


def why_float(node: ir.Node, found: Placement, types: Sequence[str] = ()) -> str:
    """Why an operator that is no site does not compute on integers; ``types``: if there are any, no others may."""
    if not is_op(node, *MIXES, *MOVES):
        return f"{node.op_type} has no kernel for integers"
    if types and node.op_type not in types:
        return f"{node.op_type} is not among the operators to quantise"
    if not any(user in found.integer for value in node.outputs for user in users(value)):
        return "nothing that computes on integers reads what it makes"
    return "what it reads is in float anyway" if _may(node, None) else "its form has no kernel for integers"


def _may(node: ir.Node, types: frozenset[str] | None) -> bool:
    if not is_op(node, *MIXES, *MOVES) or (types is not None and node.op_type not in types) or not node.inputs or node.inputs[0] is None:
        return False
    if any(value is not None and (value.uses() or value.is_graph_output()) for value in node.outputs[1:]) and node.op_type != "Split":
        return False
    data = node.inputs[: len(node.inputs) if node.op_type == "Concat" else 2 if node.op_type in ("Add", "Mul") else 1]
    if any(value is None or value.dtype != FLOAT for value in data) or all(constant(value) is not None for value in data):
        return False
    return _is_plain(node)


def _is_plain(node: ir.Node) -> bool:
    """Whether the form of the operator at hand has a kernel for integers."""
    if node.op_type == "Resize":
        return attribute(node, "mode") == "nearest" and attribute(node, "coordinate_transformation_mode") != "tf_crop_and_resize"
    if node.op_type == "Gather":
        return constant(node.inputs[0]) is None
    if node.op_type == "Pad":
        fill = node.inputs[2] if len(node.inputs) > 2 else None
        return attribute(node, "mode", "constant") != "constant" or fill is None or scalar(fill) is not None
    if node.op_type == "Clip":
        return all(value is None or scalar(value) is not None for value in node.inputs[1:])
    if node.op_type == "AveragePool":
        return not attribute(node, "ceil_mode", 0) and all(size == 1 for size in attribute(node, "dilations", ()) or ())  # type: ignore[attr-defined]
    if node.op_type in ("Add", "Mul"):
        return all(one is None or (content := array(one)) is None or content.size <= MOST_CONSTANT for one in node.inputs)
    return True


MOST_CONSTANT = 1 << 16
"""Elements of a constant that is added or multiplied: such large ones are rather weights that deserve better than one scale."""


def _heading_to_sites(graph: ir.Graph, found: Placement, allowed: set[ir.Node]) -> set[ir.Node]:
    """The operators among ``allowed`` whose result a site reads, directly or through others of them."""
    wanted: set[ir.Node] = set()
    for node in reversed(list(graph)):
        if node in allowed and any(_demands(user, index, found, wanted) for value in node.outputs for user, index in value.uses()):
            wanted.add(node)
    return wanted


def _demands(user: ir.Node, index: int, found: Placement, wanted: set[ir.Node]) -> bool:
    return (user in found.sites or user in wanted) and index in quantised_inputs(user, found)


def _settle(graph: ir.Graph, found: Placement, wanted: set[ir.Node]) -> None:
    """Of the operators wanted, those that read something which has codes anyway: of a float computed by another, only a move of a graph input is worth it."""
    coded: set[ir.Value] = set()
    absorbed: set[ir.Node] = set()
    for node in graph:
        if node in absorbed:
            continue
        data = _data(node, found) if node in found.sites or node in wanted else []
        if node in wanted and node.op_type in MOVES:
            if data[0] in coded or data[0].is_graph_input():
                found.moves.add(node)
                coded.update((data[0], *node.outputs))
            continue
        if node in wanted and any(value in coded for value in data):
            found.mixes.add(node)
        elif node not in found.sites:
            continue
        coded.update(data)
        clamp = _clamp_of(node)
        gives = found.gives_codes(node)
        if clamp is not None and (gives or clamp in wanted):
            found.clamps[node] = clamp
            absorbed.add(clamp)
            coded.update(clamp.outputs)
        elif gives:
            coded.update(node.outputs)


def _data(node: ir.Node, found: Placement) -> list[ir.Value]:
    return [value for index in quantised_inputs(node, found) if (value := node.inputs[index]) is not None]


def _clamp_of(node: ir.Node) -> ir.Node | None:
    """The Relu or Clip that alone reads what the node makes."""
    readers = users(node.outputs[0])
    if is_op(node, "LeakyRelu", "Sigmoid") or len(readers) != 1 or not is_op(readers[0], *CLAMPS) or node.outputs[0].is_graph_output():
        return None
    clamp = readers[0]
    return clamp if _is_plain(clamp) and clamp.inputs[0] is node.outputs[0] and clamp.graph is node.graph else None


def _note_codes(graph: ir.Graph, found: Placement) -> None:
    """Every value that gets codes, in graph order: what integer operators read, and what comes out of those that give nothing else."""
    coded: dict[ir.Value, None] = {}
    inner = {node.outputs[0] for node in found.clamps}
    for node in graph:
        if node in found.integer:
            coded.update(dict.fromkeys(_data(node, found)))
        if node in found.moves or (found.gives_codes(node) and node not in found.clamps):
            coded.update(dict.fromkeys(node.outputs))
        elif node in found.clamps:
            coded[found.clamps[node].outputs[0]] = None
    found.coded = {value: None for value in coded if value not in inner and constant(value) is None and producer(value, "DequantizeLinear") is None}


def _share_scales(found: Placement, join: bool) -> None:
    def unite(one: ir.Value, other: ir.Value) -> None:
        first, second = found.root(one), found.root(other)
        if first is not second:
            found.roots[second] = first

    for node in found.moves:
        for value in node.outputs:
            if node.inputs[0] in found.coded and value in found.coded:
                unite(node.inputs[0], value)
    for node in (one for one in found.mixes if join and is_op(one, "Concat")):
        result = found.result(node)
        for given in node.inputs:
            if given in found.coded:
                unite(result, given)


def read_roots(found: Placement) -> set[ir.Value]:
    """The roots of values that an operator computes on; codes of others only become floats again, and no code of an output may be cut off."""
    return {found.root(value) for node in found.integer for index in quantised_inputs(node, found) if (value := node.inputs[index]) is not None}
