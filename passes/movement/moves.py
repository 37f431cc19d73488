"""Transposes and reshapes in a row."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import onnx_ir as ir

from ...compiler.core.build import Build
from ...compiler.core.dims import Dim, multiply, same_shape
from ...compiler.core.drift import EXACT
from ...compiler.core.graph import is_op, producer
from ...compiler.core.reasons import Skip, skip
from ...compiler.core.rule import Match, Result, rule
from ...compiler.core.shapes import dims_of, never_zero
from ..cleanup.identity import permutation
from .atoms import Group, Layout
from .views import VIEWS, only_reader, reshaped, reshaped_like

LONGEST = 8
"""Chains are looked at this far back."""

Dims = tuple[Dim, ...]


@dataclass(frozen=True)
class Plan:
    """Reshape to ``first``, then Transpose by ``perm``, then Reshape to ``last``; each may be missing."""

    first: Dims | None
    perm: list[int] | None
    last: Dims | None

    @property
    def cost(self) -> tuple[int, int]:
        """How many transposes, how many operators."""
        return int(self.perm is not None), sum(part is not None for part in (self.first, self.perm, self.last))


@rule(
    "Transpose",
    *VIEWS,
    drift=EXACT,
    shared=True,
    opset=13,
    examples=[
        "g (float[1,S,3] x) => (float[S,1,3] y) { y = Transpose<perm=[1,0,2]>(x) }",
        "g (bool[4,1,1,3] x) => (bool[4,3,1,1] y) { y = Transpose<perm=[0,3,1,2]>(x) }",
        "g (int64[2,4,5,3] x) => (int64[2,3,20] y) <int64[3] s = {2,20,3}, int64[3] t = {2,3,20}, int64[4] u = {2,4,3,5}>"
        " { a = Transpose<perm=[0,3,1,2]>(x) b = Reshape(a, t) c = Transpose<perm=[0,2,1]>(b) y = Reshape(c, s) }",
        "g (float[N,4,5,3] x) => (float[N,20,3] y) <int64[3] t = {0,3,20}>"
        " { a = Transpose<perm=[0,3,1,2]>(x) b = Reshape(a, t) y = Transpose<perm=[0,2,1]>(b) }",
        "g (float[2,3,4,5] x) => (float[4,2,5,3] y) <int64[3] f = {6,4,5}, int64[4] b = {4,5,2,3}>"
        " { p = Reshape(x, f) q = Transpose<perm=[1,2,0]>(p) r = Reshape(q, b) y = Transpose<perm=[0,2,1,3]>(r) }",
    ],
    leaves=[
        "g (float[N,S,6] x) => (float[N,2,1,S,3] y) <int64[4] s = {0,0,2,3}, int64[1] u = {2}>"
        " { a = Reshape(x, s) b = Transpose<perm=[0,2,1,3]>(a) y = Unsqueeze(b, u) }",
        "g (float[N,4,4,3] x) => (float[N,3,16] y) <int64[3] s = {0,16,3}> { a = Reshape(x, s) b = Transpose<perm=[0,2,1]>(a) y = Relu(b) }",
        "g (float[A,S,3] x) => (float[S,A,3] y) { y = Transpose<perm=[1,0,2]>(x) }",
        "g (float[N,S,6] x) => (float[N,2,S,3] y) <int64[4] s = {0,0,2,3}> { a = Reshape(x, s) y = Transpose<perm=[0,2,1,3]>(a) }",
        "g (float[N,2,S,3] x) => (float[N,S,6] y) <int64[3] s = {0,0,6}> { a = Transpose<perm=[0,2,1,3]>(x) y = Reshape(a, s) }",
        "g (float[N,8,H,W] x) => (float[N,8,H,W] y) <int64[5] s = {0,2,4,1,-1}, int64[4] t = {0,8,3,3}>"
        " { a = Reshape(x, s) b = Transpose<perm=[0,2,1,3,4]>(a) y = Reshape(b, t) }",
        "g (float[4,6] x) => (float[4,6] y) <int64[2] s = {8,3}, int64[2] t = {4,6}> { a = Transpose(x) b = Reshape(a, s) c = Transpose(b) y = Reshape(c, t) }",
    ],
)
def merge_moves(op: Build, m: Match) -> Result:
    """Transposes and Reshapes in a row -> fewer Transposes with what Reshapes they need, or one alone; none where only dims of size 1 move"""
    refusal: Skip | None = None
    for source, chain in _chains(m.root):
        layout = _layout(source, chain)
        if layout is None:
            refusal = skip("what the Reshapes keep together of '%s' is not proven", source.name)
            continue
        plan = _plan(dims_of(source) or (), layout, dims_of(m.root.outputs[0]) or ())
        transposes, operators = _cost_of(chain)
        if plan.cost[0] < transposes or plan.cost == (transposes, 1) < (transposes, operators):
            made = _built(op, source, plan, m.root)
            if not isinstance(made, Skip):
                return made
            refusal = made
    return refusal


def _chains(root: ir.Node) -> Iterator[tuple[ir.Value, list[ir.Node]]]:
    """Chains of moves that end in ``root``, as (source, nodes from first to last), the longest first; each holds a Transpose."""
    chain = [root]
    while len(chain) < LONGEST:
        before = producer(chain[0].inputs[0], "Transpose", *VIEWS)
        if before is None:
            break
        chain.insert(0, before)
    for start in range(len(chain)):
        source = chain[start].inputs[0]
        if source is not None and any(is_op(node, "Transpose") for node in chain[start:]):
            yield source, chain[start:]


def _layout(source: ir.Value, chain: list[ir.Node]) -> Layout | None:
    """The atoms at the end of a chain; None when they are not proven, or when there may be nothing in the tensor whatever its symbols are."""
    shape = dims_of(source)
    if shape is None or 0 in shape:
        return None
    layout = Layout.of(shape)
    for node in chain:
        made = dims_of(node.outputs[0])
        perm = permutation(node) if is_op(node, "Transpose") else None
        moved = layout.transpose(perm) if perm is not None else made is not None and not is_op(node, "Transpose") and layout.reshape(made)
        if not moved:
            return None
    return layout


def _cost_of(chain: list[ir.Node]) -> tuple[int, int]:
    """The transposes and operators that go with the chain: what comes before a value that is needed elsewhere stays."""
    gone = [chain[-1]]
    for before in reversed(chain[:-1]):
        if not only_reader(before.outputs[0], gone[-1]):
            break
        gone.append(before)
    return sum(is_op(node, "Transpose") for node in gone), len(gone)


def _plan(shape: Dims, layout: Layout, made: Dims) -> Plan:
    """The least that gives the atoms their last order: by the dims of the source, by those of the result, or by blocks that stay together."""
    before, after = layout.before(), layout.after()
    order, wanted = _flat(before), _flat(after)
    if order == wanted:
        return Plan(None, None, made)
    plans = [_by_blocks(order, wanted, made)]
    if (perm := _source_perm(before, after)) is not None:
        moved = tuple(shape[axis] for axis in perm)
        plans.append(Plan(None, perm, None if same_shape(moved, made) else made))
    if (perm := _source_perm(after, before)) is not None:
        inverse = sorted(range(len(perm)), key=perm.__getitem__)
        plans.append(Plan(tuple(made[axis] for axis in perm), inverse, None))
    return min(plans, key=lambda plan: plan.cost)


def _flat(groups: list[Group]) -> Group:
    return [atom for group in groups for atom in group]


def _source_perm(groups: list[Group], wanted: list[Group]) -> list[int] | None:
    """How the dims ``groups`` must be moved whole so that their atoms stand as in ``wanted``; dims of size 1 go where ``wanted`` has one, if they can."""
    place = {group[0]: axis for axis, group in enumerate(groups) if group}
    empty = [axis for axis, group in enumerate(groups) if not group]
    perm: list[int] = []
    queue: Group = []
    for target in wanted:
        if not target and empty and not queue:
            perm.append(empty.pop(0))
        queue += target
        while queue:
            axis = place.get(queue[0])
            if axis is None:
                return None
            group = groups[axis]
            if queue[: len(group)] != group:
                if group[: len(queue)] == queue:
                    break
                return None
            perm.append(axis)
            del queue[: len(group)]
    return None if queue else [*perm, *empty]


def _by_blocks(order: Group, wanted: Group, made: Dims) -> Plan:
    """Atoms that stand together before and after move as one."""
    position = {atom: index for index, atom in enumerate(order)}
    blocks: list[Group] = []
    for atom in wanted:
        if blocks and position[atom] == position[blocks[-1][-1]] + 1:
            blocks[-1].append(atom)
        else:
            blocks.append([atom])
    first = sorted(blocks, key=lambda block: position[block[0]])
    perm = [first.index(block) for block in blocks]
    return Plan(tuple(map(_size, first)), perm, made)


def _size(block: Group) -> Dim:
    size: Dim = 1
    for atom in block:
        size = multiply(size, atom.size)
    return size


def _built(op: Build, source: ir.Value, plan: Plan, root: ir.Node) -> ir.Value | Skip:
    value, positive = source, never_zero(root)
    shape = dims_of(source) or ()
    if plan.first is not None:
        first = reshaped(op, value, plan.first, positive)
        if isinstance(first, Skip):
            return first
        value, shape = first, plan.first
    if plan.perm is not None:
        value = op.Transpose(value, perm=plan.perm)  # type: ignore[assignment]
        value.shape = ir.Shape([shape[axis] for axis in plan.perm])
    if plan.last is None:
        return value
    return reshaped_like(op, value, root) if is_op(root, "Reshape") else reshaped(op, value, plan.last, positive)
