"""A model that computes in 16 bits, with its inputs and outputs as they were."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from ....compiler.core.graph import all_graphs, array, constant, is_op, make_constant, node_label, swap_names, sweep
from ....compiler.core.names import Names
from .islands import narrowed
from .reach import end_of

__all__ = ["Halving"]


@dataclass
class Halving:
    """Turns nodes of a model to 16 bits; a value is cast where its maker and a reader differ, once for each direction.

    Values of subgraphs that come in or go out stay float32, as those of the model do. Those ``beyond`` the range, such as a mask of -3.4e38, are clipped to
    half of it before they are cast: as infinities they would make NaN of a row in which everything is hidden.
    """

    model: ir.Model
    dtype: ir.DataType
    beyond: Collection[ir.Value] = ()
    names: Names = field(init=False)
    casts: dict[tuple[ir.Value, ir.DataType], ir.Value] = field(default_factory=dict)
    halves: dict[ir.Value, ir.Value] = field(default_factory=dict)
    turned: set[ir.Value] = field(default_factory=set)
    """Values that were float32 before."""

    def __post_init__(self) -> None:
        self.names = Names(self.model)

    def turn(self, nodes: Collection[ir.Node]) -> None:
        """Let these nodes compute in 16 bits. Each can, by `islands.stays_wide`."""
        operands = {node: narrowed(node, self.dtype) for node in nodes}
        for node, (_, outputs) in operands.items():
            for index in outputs:
                node.outputs[index].type = ir.TensorType(self.dtype)
                self.turned.add(node.outputs[index])
        for graph in all_graphs(self.model):
            for node in list(graph):
                wanted = set(operands[node][0]) if node in operands else set()
                for index, value in enumerate(node.inputs):
                    if value is not None:
                        self._feed(node, index, value, index in wanted)
        for graph in all_graphs(self.model):
            self._widen_outputs(graph)
        sweep([node for graph in all_graphs(self.model) for node in graph if is_op(node, "Cast") and not node.outputs[0].uses()])

    def _feed(self, node: ir.Node, index: int, value: ir.Value, half: bool) -> None:
        wanted = self.dtype if half else ir.DataType.FLOAT
        tensor = constant(value)
        if half and tensor is not None and tensor.dtype is ir.DataType.FLOAT:
            node.replace_input_with(index, self._constant(value))
        elif (half and value.dtype is ir.DataType.FLOAT) or (not half and value in self.turned):
            node.replace_input_with(index, self._cast(value, wanted))

    def _constant(self, value: ir.Value) -> ir.Value:
        found = self.halves.get(value)
        if found is None:
            content, graph = array(value), value.graph
            assert content is not None and graph is not None
            made = make_constant(graph, ir.Tensor(content.astype(self.dtype.numpy())), self.names.fresh(f"{value.name}_half"))
            found = self.halves[value] = made
        return found

    def _cast(self, value: ir.Value, dtype: ir.DataType) -> ir.Value:
        found = self.casts.get((value, dtype))
        if found is None:
            made = ir.Value(name=self.names.fresh(f"{value.name}_as_{dtype.name.lower()}"), type=ir.TensorType(dtype), shape=value.shape)
            source = self._clipped(value) if dtype is self.dtype and value in self.beyond else value
            node = ir.Node("", "Cast", [source], [ir.AttrInt64("to", dtype.value)], outputs=[made], name=self.names.fresh(f"{value.name}_cast"))
            _insert_after(source, node)
            found = self.casts[(value, dtype)] = made
        return found

    def _clipped(self, value: ir.Value) -> ir.Value:
        """The value within half the range of 16 bits; where it is small anyway this changes nothing."""
        graph = value.graph
        assert graph is not None
        end = end_of(self.dtype) / 2
        ends = [make_constant(graph, ir.Tensor(np.array(number, np.float32)), self.names.fresh(f"{value.name}_end")) for number in (-end, end)]
        made = ir.Value(name=self.names.fresh(f"{value.name}_clipped"), type=value.type, shape=value.shape)
        _insert_after(value, ir.Node("", "Clip", [value, *ends], outputs=[made], name=self.names.fresh(f"{value.name}_clip")))
        return made

    def _widen_outputs(self, graph: ir.Graph) -> None:
        for place, value in enumerate(graph.outputs):
            if value in self.turned:
                wide = self._cast(value, ir.DataType.FLOAT)
                graph.outputs[place] = wide
                swap_names(value, wide, self.names)


def _insert_after(value: ir.Value, node: ir.Node) -> None:
    producer, graph = value.producer(), value.graph
    if producer is not None and producer.graph is not None:
        producer.graph.insert_after(producer, node)
        return
    assert isinstance(graph, ir.Graph), node_label(node)
    graph.insert_before(graph[0], node)
