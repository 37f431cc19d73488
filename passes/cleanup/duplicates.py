"""Equal initialisers, kept once."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from ...compiler.core.drift import Drift
from ...compiler.core.graph import all_graphs, attribute, is_op, subgraphs_of
from ...compiler.core.passes import Context, Pass
from .scopes import ambiguous_names

RULE = "merge-initialisers"
GLANCE = 4096
"""How many bytes tell most different tensors apart."""


@dataclass(frozen=True)
class DeduplicateInitialisers(Pass):
    """Lets initialisers of the same dtype, shape and bits share one value; a subgraph's uses the equal one outside.

    0.0 and -0.0 differ, and so do NaNs of different bits. An initialiser that a caller can override, or that is an output, stays.
    Bits are compared by hash, and only among tensors that agree in all else; what lies on disk is read in pieces.
    """

    name: ClassVar[str] = "deduplicate-initialisers"
    drift: ClassVar[Drift] = Drift.EXACT

    def run(self, model: ir.Model, context: Context) -> int:
        """Change ``model`` in place; returns how many initialisers went."""
        return _Merger(model, context).merge_in(model.graph)


class _Merger:
    """One walk over a model, outer graphs first."""

    def __init__(self, model: ir.Model, context: Context) -> None:
        self.context = context
        self.ambiguous = ambiguous_names(model)
        self.contents = contents(value for graph in all_graphs(model) for value in graph.initializers.values() if _is_steady(value))
        self.visible: dict[Hashable, ir.Value] = {}

    def merge_in(self, graph: ir.Graph) -> int:
        """Merge the initialisers of a graph and of those nested in it."""
        merged = 0
        added: list[Hashable] = []
        held = [value for value in graph.initializers.values() if value in self.contents]
        for value in sorted(held, key=lambda value: not value.is_graph_output()):
            content = self.contents[value]
            twin = self.visible.get(content)
            if twin is None:
                self.visible[content] = value
                added.append(content)
            elif self._may_stand_for(twin, value) and self.context.ledger.permit(RULE, value.name or ""):
                value.replace_all_uses_with(twin)
                del graph.initializers[value.name or ""]
                merged += 1
        merged += sum(self.merge_in(inner) for node in graph for inner in subgraphs_of(node))
        for content in added:
            del self.visible[content]
        return merged

    def _may_stand_for(self, twin: ir.Value, value: ir.Value) -> bool:
        return not value.is_graph_output() and (twin.graph is value.graph or twin.name not in self.ambiguous)


def _is_steady(value: ir.Value) -> bool:
    """Whether it holds the same at every run: a caller cannot override it, and no BatchNormalization in training reads it.

    ONNX Runtime writes the running mean and variance that such a node makes over the ones that it is given.
    """
    trained = (is_op(node, "BatchNormalization") and attribute(node, "training_mode", 0) for node, _ in value.uses())
    return not value.is_graph_input() and not any(trained)


def contents(values: Iterable[ir.Value]) -> dict[ir.Value, Hashable]:
    """Something equal for equal tensors and different for others, for each value that may have an equal; the others are left out."""
    held = {value: value.const_value for value in values if value.const_value is not None}
    alike = _crowded({value: (tensor.dtype, tuple(tensor.shape)) for value, tensor in held.items()})
    for look in (_glance, _digest):
        alike = _crowded({value: (form, look(held[value])) for value, form in alike.items()})
    return alike


def _crowded(keys: dict[ir.Value, Hashable]) -> dict[ir.Value, Hashable]:
    """The values that share their key with another."""
    count: dict[Hashable, int] = {}
    for key in keys.values():
        count[key] = count.get(key, 0) + 1
    return {value: key for value, key in keys.items() if count[key] > 1}


def _glance(tensor: ir.TensorProtocol) -> bytes:
    seen = bytearray()

    def look(piece: bytes) -> None:
        seen.extend(memoryview(piece)[: GLANCE - len(seen)])
        if len(seen) >= GLANCE:
            raise _Enough

    with contextlib.suppress(_Enough):
        _pour(tensor, look)
    return bytes(seen)


def _digest(tensor: ir.TensorProtocol) -> bytes:
    digest = hashlib.blake2b(digest_size=32)
    _pour(tensor, digest.update)
    return digest.digest()


class _Enough(Exception):
    """Nothing more need be read."""


def _pour(tensor: ir.TensorProtocol, take: Callable[[bytes], None]) -> None:
    """Hand the bytes of a tensor to ``take``, in pieces where they lie on disk; each string comes after its length."""
    if tensor.dtype != ir.DataType.STRING:
        write = getattr(tensor, "tofile", None)
        if write is None:
            take(tensor.tobytes())
        else:
            write(_Taker(take))
        return
    for text in tensor.numpy().reshape(-1).tolist():
        raw = text if isinstance(text, bytes) else str(text).encode()
        take(len(raw).to_bytes(8, "little") + raw)


@dataclass
class _Taker:
    """Looks like a file to a tensor that writes itself."""

    write: Callable[[bytes], None]
