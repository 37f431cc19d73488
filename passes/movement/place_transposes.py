"""The pass that puts transposes where they cost least.

Exporters of models in another layout (NHWC) transpose before and after each operator that wants the usual one. A stretch of operators that do not
care computes in whichever order of dims leaves the fewest bytes to transpose: found as a minimum cut, since each operator has one of two layouts and
a transpose stands wherever neighbours differ. Runtimes lay out convolutions in blocks by themselves, so nothing but transposes is counted.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from ...compiler.core.build import Build
from ...compiler.core.drift import ROUNDING, Drift
from ...compiler.core.engine import apply_rules
from ...compiler.core.graph import all_graphs, constant, is_op, opset, replace, swap_names, sweep, users
from ...compiler.core.names import Names
from ...compiler.core.passes import Context, Pass
from ...compiler.core.ranges import Ranges
from ...compiler.core.shapes import dims_of, settle_shapes
from ..cleanup.identity import drop_transpose, merge_transposes, permutation
from .layouts import AGNOSTIC, Faces, Layout, after, data_slots, identity, inverse, rewritten
from .region import Region, bytes_transposed, widens

RULE = "place-transposes"
OLDEST = 13
"""The first opset in which the operators read their axes as they are read here."""
LIMIT = 1000
"""Stretches are not changed more often than this in one model."""


@dataclass(frozen=True)
class PlaceTransposes(Pass):
    """Lets stretches of operators compute in the order of dims that leaves the fewest bytes to transpose, and cancels transposes that meet."""

    name: ClassVar[str] = RULE
    drift: ClassVar[Drift] = ROUNDING

    def run(self, model: ir.Model, context: Context) -> int:
        """Change one stretch after the other while that saves bytes; returns how many changes were made."""
        if opset(model) < OLDEST or RULE in context.without:
            return 0
        settle_shapes(model)
        tidy = [item for item in (drop_transpose, merge_transposes) if item.name not in context.without]
        changes = apply_rules(model, tidy, context)
        work = _Work(model, context)
        while work.changed < LIMIT and work.round():
            pass
        return changes + work.changed


@dataclass
class _Work:
    """The changes to one model."""

    model: ir.Model
    context: Context
    changed: int = 0
    seen: set[tuple[ir.Node, Faces]] = field(default_factory=set)
    bytes: dict[ir.Node, int] = field(default_factory=dict)
    totals: dict[ir.Graph, int] = field(default_factory=dict)
    settled: set[ir.Graph] = field(default_factory=set)

    def round(self) -> int:
        """Look at every Transpose once; returns how many stretches were changed."""
        before = self.changed
        self.seen.clear()
        self.names, self.ranges = Names(self.model), Ranges()
        for graph in list(all_graphs(self.model)):
            for node in [node for node in graph if is_op(node, "Transpose")]:
                for downwards in (True, False):
                    if node.graph is graph and graph not in self.settled and dims_of(node.outputs[0]) is not None:
                        self.changed += self.around(node, downwards)
        return self.changed - before

    def around(self, moved: ir.Node, downwards: bool) -> bool:
        """Change the stretch on one side of a Transpose, if that saves anything.

        What is saved is worked out from the stretch alone. Where several of its values come from one tensor that may be wrong, and when the whole graph
        does not have fewer bytes to transpose than before, it is left as it is from then on: otherwise two such changes could follow each other forever.
        """
        region = Region.around(moved, self.possible, downwards, self.seen)
        chosen = region.chosen()
        if not chosen:
            self.seen.update(region.faces.items())
            return False
        if not self.context.ledger.permit(RULE, moved.outputs[0].name or ""):
            return False
        graph = moved.graph
        assert isinstance(graph, ir.Graph)
        if graph not in self.totals:
            self._count(graph)
            self.totals[graph] = self._total(graph)
        self._count(_Rewrite(self.names, {node: region.faces[node] for node in chosen}).run())
        before, self.totals[graph] = self.totals[graph], self._total(graph)
        if self.totals[graph] >= before:
            self.settled.add(graph)
        return True

    def _count(self, nodes: Iterable[ir.Node]) -> None:
        self.bytes.update((node, moved) for node in nodes if (moved := bytes_transposed(node)))

    def _total(self, graph: ir.Graph) -> int:
        return sum(moved for node, moved in self.bytes.items() if node.graph is graph)

    def possible(self, node: ir.Node) -> bool:
        """Whether the order of its dims is nothing to an operator. The largest of numbers with a NaN among them depends on the order in kernels."""
        if not is_op(node, *AGNOSTIC) or any(dims_of(value) is None for value in (*node.inputs, *node.outputs) if value is not None):
            return False
        if not is_op(node, "ReduceMax", "ReduceMin"):
            return True
        source = node.inputs[0]
        whole = source is not None and source.dtype is not None and source.dtype.is_integer()
        return whole or self.context.fast_math or self.ranges.is_finite(source)


class _Rewrite:
    """Writes some operators anew for other layouts, with transposes where they meet the rest."""

    def __init__(self, names: Names, faces: dict[ir.Node, Faces]) -> None:
        self.names = names
        self.faces = faces
        self.made: dict[tuple[ir.Value, Layout], ir.Value] = {}
        self.named: set[ir.Value] = set()
        self.nodes: list[ir.Node] = []

    def run(self) -> list[ir.Node]:
        """Rewrite in order, then let every other reader have what it had; returns the nodes made."""
        graph = next(iter(self.faces)).graph
        assert isinstance(graph, ir.Graph)
        nodes = [node for node in graph if node in self.faces]
        fresh: list[tuple[ir.Value, ir.Value, Layout]] = []
        for node in nodes:
            op, faces = Build(), self.faces[node]
            new = rewritten(op, node, faces, self._inputs(op, node, faces))
            self._insert(op, node)
            for old, value in zip(node.outputs, new.outputs, strict=True):
                self._describe(value, old, faces.outer)
                self.made[old, faces.outer] = value
                fresh.append((old, value, faces.outer))
        for old, value, layout in fresh:
            self._hand_back(old, value, layout)
        sweep(reversed(nodes))
        return self.nodes

    def _inputs(self, op: Build, node: ir.Node, faces: Faces) -> list[ir.Value | None]:
        slots = data_slots(node)
        values: list[ir.Value | None] = []
        for slot, value in enumerate(node.inputs):
            shape = dims_of(value)
            if value is not None and slot in slots:
                values.append(self._in_layout(op, value, faces.inner))
            elif value is not None and widens(node) and shape and any(dim != 1 for dim in shape):
                values.append(self._in_layout(op, self._widened(op, value, len(faces.outer)), faces.outer))
            else:
                values.append(value)
        return values

    def _widened(self, op: Build, value: ir.Value, rank: int) -> ir.Value:
        """The value with as many dims of size 1 in front as broadcasting gives it."""
        shape = dims_of(value) or ()
        missing = rank - len(shape)
        content = constant(value)
        if content is not None:
            return op.const(content.numpy().reshape((1,) * missing + content.numpy().shape), "wide")
        made: ir.Value = op.Unsqueeze(value, op.const(list(range(missing)), "axes"))  # type: ignore[assignment]
        made.shape, made.type = ir.Shape((1,) * missing + shape), value.type
        return made

    def _in_layout(self, op: Build, value: ir.Value, layout: Layout) -> ir.Value:
        """The value in another layout: made anew, permuted if it is constant, else transposed."""
        known = self.made.get((value, layout))
        if known is not None or layout == identity(len(layout)):
            return known or value
        content, maker = value.const_value if value in op.constants else constant(value), value.producer()
        perm = permutation(maker) if maker is not None and is_op(maker, "Transpose") else None
        if content is not None:
            made = op.const(np.ascontiguousarray(content.numpy().transpose(layout)), "moved")
        elif perm is not None and maker is not None and maker.inputs[0] is not None:
            made = self._in_layout(op, maker.inputs[0], after(tuple(perm), layout))
        else:
            made = self._transposed(op, value, layout)
        self._describe(made, value, layout)
        self.made[value, layout] = made
        return made

    def _transposed(self, op: Build, value: ir.Value, layout: Layout) -> ir.Value:
        return value if layout == identity(len(layout)) else op.Transpose(value, perm=list(layout))  # type: ignore[return-value]

    def _describe(self, value: ir.Value, old: ir.Value, layout: Layout) -> None:
        shape = dims_of(old)
        if value.shape is None and shape is not None:
            value.shape = ir.Shape([shape[axis] for axis in layout])
        if value.type is None:
            value.type = old.type

    def _insert(self, op: Build, node: ir.Node) -> None:
        graph = node.graph
        assert isinstance(graph, ir.Graph)
        for value in op.constants:
            if value.uses():
                value.name = self.names.fresh(f"{node.outputs[0].name}_{value.meta['hint']}")
                graph.register_initializer(value)
        for made in op.nodes:
            made.name = self.names.fresh((node.name or node.op_type) if made.op_type == node.op_type else made.op_type)
            for output in made.outputs:
                output.name = self.names.fresh(f"{made.name}_out")
            graph.insert_before(node, made)
            self.nodes.append(made)

    def _hand_back(self, old: ir.Value, value: ir.Value, layout: Layout) -> None:
        """Give those who still read the old value what they had: one Transpose of the new one for each layout that is needed."""
        for reader in users(old):
            perm = permutation(reader) if is_op(reader, "Transpose") and reader.graph is old.graph else None
            if perm is not None:
                self._stand_in(reader.outputs[0], self._from(old, value, after(inverse(layout), tuple(perm))))
                sweep([reader])
        if old.is_graph_output() or any(reader not in self.faces for reader, _ in old.uses()):
            self._stand_in(old, self._from(old, value, inverse(layout)))

    def _from(self, old: ir.Value, value: ir.Value, perm: Layout) -> ir.Value:
        """The new value transposed, once for each permutation, where the old one was made."""
        node = old.producer()
        if (value, perm) not in self.made and node is not None:
            op = Build()
            self.made[value, perm] = made = self._transposed(op, value, perm)
            self._insert(op, node)
            self._describe(made, value, perm)
        return self.made[value, perm]

    def _stand_in(self, old: ir.Value, new: ir.Value) -> None:
        """Let the new value be read instead of the old one; a Transpose made for it also takes its name, unless it has that of another."""
        made = is_op(new.producer(), "Transpose") and new not in self.named and not new.is_graph_output()
        inherits = made and bool(old.name) and not old.is_graph_output()
        self.named.add(new)
        replace(old, new, self.names)
        if inherits:
            swap_names(old, new, self.names)
