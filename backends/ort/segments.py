"""Models too large to be held at once: cut into segments that run one after the other, each with only its own weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import onnx_ir as ir

from ...compiler.core.backend import Array
from ...compiler.core.timing import Stopwatch
from .options import REFERENCE, Options
from .ports import ports_of, type_proto
from .session import OrtRunner, open_skeleton
from .skeleton import Skeleton
from .values import Intake

SEGMENT_BYTES = 192 << 20


@dataclass(frozen=True)
class Segment:
    """A run of nodes: what it reads from outside, what others read of it, and the initialisers it needs."""

    nodes: tuple[onnx.NodeProto, ...]
    needs: tuple[str, ...]
    makes: tuple[str, ...]
    weights: tuple[str, ...]


class SegmentedRunner:
    """Runs a model segment by segment, opening each as its turn comes and closing it after. Values are kept while a later segment needs them."""

    def __init__(self, model: ir.Model, skeleton: Skeleton, options: Options = REFERENCE, *, segment_bytes: int = SEGMENT_BYTES) -> None:
        graph = skeleton.proto.graph
        initial = {tensor.name for tensor in graph.initializer}
        declared = ports_of(graph.input)
        self.inputs = tuple(port for port in declared if port.name not in initial)
        self.outputs = ports_of(graph.output)
        self.segments = cut(graph, skeleton.sizes, segment_bytes)
        self._model = model
        self._skeleton = skeleton
        self._options = options
        self._intake = Intake(self.inputs, [port for port in declared if port.name in initial])
        self._last_use = _last_uses(self.segments)
        self._types: dict[str, onnx.ValueInfoProto] = {value.name: value for value in graph.input}
        self._declared = {value.name: value for value in (*graph.value_info, *graph.output)}
        self._protos = {tensor.name: tensor for tensor in graph.initializer}

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """All outputs by name. Raises InputError when the feeds do not fit or the model fails on them."""
        values = self._intake.checked(feeds)
        for _ in self._turns(values):
            pass
        return {port.name: self._output(port.name, values) for port in self.outputs}

    def run_timed(self, feeds: Mapping[str, Array], calls: int = 1) -> tuple[dict[str, Array], float]:
        """All outputs, and the seconds that ``calls`` runs of every segment took; opening the segments is not counted."""
        values = self._intake.checked(feeds)
        seconds = 0.0
        for runner, ready in self._turns(values):
            seconds += runner.stopwatch(ready)(calls)
        return {port.name: self._output(port.name, values) for port in self.outputs}, seconds

    def stopwatch(self, feeds: Mapping[str, Array]) -> Stopwatch:
        """Times runs on these feeds, all runs of one segment before those of the next. Raises InputError when they do not fit."""
        ready = self._intake.checked(feeds)
        return lambda calls: self.run_timed(ready, calls)[1]

    def close(self) -> None:
        """Between runs nothing is held."""

    def _turns(self, values: dict[str, Array]) -> Iterator[tuple[OrtRunner, dict[str, Array]]]:
        """Open each segment with what it is fed; afterwards its results are in ``values``, and what no later segment needs is not."""
        kept = {port.name for port in self.outputs}
        for index, segment in enumerate(self.segments):
            with self._open(segment, values) as runner:
                ready = {name: values[name] for name in segment.needs if name in values}
                yield runner, ready
                values.update(runner.run(ready))
                self._learn(runner)
            for name in (*segment.needs, *segment.makes):
                if self._last_use.get(name, -1) <= index and name not in kept:
                    values.pop(name, None)

    def _open(self, segment: Segment, values: Mapping[str, Array]) -> OrtRunner:
        proto = self._part(segment, values)
        return open_skeleton(dataclasses.replace(self._skeleton, proto=proto), self._options, weights=segment.weights)

    def _part(self, segment: Segment, values: Mapping[str, Array]) -> onnx.ModelProto:
        whole = self._skeleton.proto
        part = onnx.ModelProto(ir_version=whole.ir_version)
        part.opset_import.extend(whole.opset_import)
        part.functions.extend(whole.functions)
        graph = part.graph
        graph.name = whole.graph.name
        graph.node.extend(segment.nodes)
        graph.initializer.extend(self._protos[name] for name in segment.weights)
        graph.input.extend(self._types[name] for name in segment.needs if name in values)
        made = {name for node in segment.nodes for name in node.output}
        graph.output.extend(self._declared.get(name) or onnx.ValueInfoProto(name=name) for name in segment.makes)
        graph.value_info.extend(value for value in whole.graph.value_info if value.name in made and value.name not in segment.makes)
        return part

    def _learn(self, runner: OrtRunner) -> None:
        """Note the types that ONNX Runtime inferred for what later segments read."""
        for port in runner.outputs:
            if port.name not in self._types:
                self._types[port.name] = onnx.ValueInfoProto(name=port.name, type=type_proto(port.dtype, port.shape))

    def _output(self, name: str, values: Mapping[str, Array]) -> Array:
        if name in values:
            return values[name]
        tensor = self._model.graph.initializers[name].const_value
        if tensor is None or tensor.dtype == ir.DataType.STRING:
            return onnx.numpy_helper.to_array(self._protos[name])
        return np.array(tensor.numpy())


def cut(graph: onnx.GraphProto, sizes: Mapping[str, int], segment_bytes: int) -> tuple[Segment, ...]:
    """Cut a graph, in its order, into segments of at most ``segment_bytes`` of initialisers each; a node that needs more stands alone."""
    groups: list[list[onnx.NodeProto]] = [[]]
    reads: list[dict[str, None]] = [{}]
    held = 0
    for node in graph.node:
        names = dict.fromkeys(free_names(node))
        extra = sum(sizes.get(name, 0) for name in names if name not in reads[-1])
        if held and held + extra > segment_bytes and extra:
            groups.append([])
            reads.append({})
            held, extra = 0, sum(sizes.get(name, 0) for name in names)
        groups[-1].append(node)
        reads[-1].update(names)
        held += extra
    return _segments(graph, [group for group in groups if group], reads)


def _segments(graph: onnx.GraphProto, groups: Sequence[Sequence[onnx.NodeProto]], reads: Sequence[Mapping[str, None]]) -> tuple[Segment, ...]:
    initial = {tensor.name for tensor in graph.initializer}
    fed = {value.name for value in graph.input}
    wanted = {value.name for value in graph.output}
    segments: list[Segment] = []
    for nodes, names in reversed(list(zip(groups, reads, strict=False))):
        made = dict.fromkeys(name for node in nodes for name in node.output if name)
        needs = tuple(name for name in names if name not in made and (name not in initial or name in fed))
        segments.append(Segment(tuple(nodes), needs, tuple(name for name in made if name in wanted), tuple(name for name in names if name in initial)))
        wanted.update(needs)
    return tuple(reversed(segments))


def _last_uses(segments: Sequence[Segment]) -> dict[str, int]:
    return {name: index for index, segment in enumerate(segments) for name in segment.needs}


def free_names(node: onnx.NodeProto) -> Iterator[str]:
    """What a node reads, in its inputs and from inside its subgraphs."""
    yield from (name for name in node.input if name)
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            own = {value.name for value in (*graph.input, *graph.initializer)}
            own.update(name for inner in graph.node for name in inner.output)
            read = [name for inner in graph.node for name in free_names(inner)] + [value.name for value in graph.output]
            yield from (name for name in read if name not in own)
