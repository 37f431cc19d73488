"""A model run block by block: what later blocks need of earlier ones is put aside, sample by sample, so that no block runs twice."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice

import numpy as np
import onnx_ir as ir

from ..core.backend import Array, Sample
from ..core.errors import InputError
from ..core.graph import clone_model, subgraphs_of, sweep
from .data import CalibrationData, sample_bytes
from .probe import Open, Probes, Visit, main_values
from .store import Store

__all__ = ["Stages"]

MEMORY_BYTES = 64 << 20


class Stages:
    """Shows values of a model group by group. After each group the samples stand at its last operator, and the next group starts from there.

    What is put aside is what operators behind that point read from before it, as far as it depends on the inputs. Where it takes more disk than there is
    room, the next group starts from where the last one did.
    """

    def __init__(self, model: ir.Model, data: CalibrationData, open_runner: Open, budget: int, limit: int | None = None) -> None:
        self._model, self._data, self._open, self._budget, self._limit = model, data, open_runner, budget, limit
        self._values = main_values(model)
        self._nodes = list(model.graph)
        self._index = {value.name: place for place, node in enumerate(self._nodes) for value in node.outputs}
        self._reads = [_reads(node, self._values) for node in self._nodes]
        self._live = self._depending()
        self._done = -1
        self._held: dict[str, Callable[[], Sample]] | None = None
        self._store: Store | None = None

    def run(
        self, names: Sequence[str], later: Iterable[str], measured: int, tell: Callable[[int], None], visit: Visit, *, stop_before: bool = False
    ) -> None:
        """Show ``visit`` the values ``names`` of every sample; ``later`` are those that will be asked for. They fit together for samples of ``measured`` bytes.

        With ``stop_before`` the samples stand before the operators that make the values, which run once more: so that their constants can change.
        Raises InputError when no sample is left.
        """
        wanted, later = set(names), set(later) | (set(names) if stop_before else set())
        last = max(self._done, self._before(names) if stop_before else max(self._index.get(name, -1) for name in names))
        carried = self._needed_behind(last, later)
        fresh = [name for name in carried if name not in wanted and self._index.get(name, -1) > self._done]
        store, held = Store(MEMORY_BYTES), dict[str, Callable[[], Sample]]()
        advances = bool(carried)
        with Probes(self._rest(wanted | later), [*names, *fresh], self._open, self._budget, measured if self._held is None else None) as probes:
            for place, (name, feeds) in enumerate(self._feeds()):
                tell(place)
                kept: dict[str, Array] = {}

                def show(value: str, content: Array, kept: dict[str, Array] = kept) -> None:
                    if value in wanted and isinstance(content, np.ndarray):
                        visit(value, content)
                    if value in carried:
                        kept[value] = content

                try:
                    probes.show(feeds, show)
                except InputError as error:
                    self._data.skip(name, str(error))
                    continue
                aside: Sample = {value: kept[value] if value in kept else feeds[value] for value in carried if value in kept or value in feeds}
                advances = advances and (bool(held) or store.has_room(sample_bytes(aside) * len(self._data)))
                if advances:
                    held[name] = store.put(aside)
        self._data.refuse_empty()
        if not advances:
            store.close()
            return
        self.close()
        self._done, self._held, self._store = last, held, store

    def close(self) -> None:
        """Remove what was put aside."""
        if self._store is not None:
            self._store.close()

    def _before(self, names: Sequence[str]) -> int:
        """The operator before the first that makes one of the values, and before the DequantizeLinears in front of that: codes take less room."""
        place = min(self._index.get(name, 0) for name in names) - 1
        while place >= 0 and self._nodes[place].op_type == "DequantizeLinear":
            place -= 1
        return place

    def _feeds(self) -> Iterator[tuple[str, Sample]]:
        if self._held is None:
            yield from islice(self._data.named(), self._limit)
            return
        for name, read in self._held.items():
            yield name, read()

    def _depending(self) -> set[str]:
        """The values that depend on the inputs; the others are computed again where they are read."""
        found = {value.name or "" for value in self._model.graph.inputs}
        for node, reads in zip(self._nodes, self._reads, strict=True):
            if not found.isdisjoint(reads) or (not reads and node.op_type != "Constant"):
                found.update(value.name or "" for value in node.outputs)
        return found

    def _needed_behind(self, last: int, later: Iterable[str]) -> list[str]:
        """What must be known at node ``last`` to compute the values ``later``."""
        wanted = set(later)
        if not wanted:
            return []
        for place in range(len(self._nodes) - 1, last, -1):
            if any(value.name in wanted for value in self._nodes[place].outputs):
                wanted.update(self._reads[place])
        return [name for name in self._values if name in wanted and name in self._live and self._index.get(name, -1) <= last]

    def _rest(self, names: set[str]) -> ir.Model:
        """The model behind the point where the samples stand, as far as these values need it: what was put aside is its inputs."""
        if self._held is None:
            return self._model
        sample = next(iter(self._held.values()))()
        copy = clone_model(self._model)
        values = main_values(copy)
        copy.graph.outputs.clear()
        ports = [_port(values[name], content) for name, content in sample.items()]
        copy.graph.outputs.extend(values[name] for name in names if name not in sample and values[name].producer() is not None)
        sweep(reversed(list(copy.graph)))
        kept = [value for value in copy.graph.inputs if value.is_initializer() and value.name not in sample]
        copy.graph.inputs.clear()
        copy.graph.inputs.extend([*ports, *kept])
        return copy


def _port(value: ir.Value, content: Array) -> ir.Value:
    """A value as an input of the graph: itself, or one that takes its name and its readers."""
    if value.producer() is None:
        return value
    name = value.name
    kind = value.type
    if kind is None and isinstance(content, np.ndarray):
        kind = ir.TensorType(ir.DataType.from_numpy(content.dtype))
    port = ir.Value(name=name, type=kind)
    value.name = f"{name}.before"
    value.replace_all_uses_with(port)
    return port


def _reads(node: ir.Node, values: Mapping[str, ir.Value]) -> list[str]:
    """The values of the main graph that a node reads, from inside its subgraphs too."""
    inner = [value for graph in subgraphs_of(node) for value in (*(read for one in graph.all_nodes() for read in one.inputs), *graph.outputs)]
    names = dict.fromkeys(value.name or "" for value in (*node.inputs, *inner) if value is not None)
    read = {id(value) for value in (*node.inputs, *inner)}
    return [name for name in names if name in values and id(values[name]) in read]
