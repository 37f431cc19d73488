"""Activations that are looked up code by code, looked up after the MaxPool that follows them: it leaves a fraction of the codes."""

from __future__ import annotations

from collections.abc import Collection

import onnx_ir as ir

from ...compiler.core.graph import attribute, is_op, replace, sweep, users
from ...compiler.core.names import Names

__all__ = ["pool_first"]


def pool_first(model: ir.Model, looked_up: Collection[ir.Node]) -> int:
    """MaxPool(f(x)) -> f(MaxPool(x)) for each f among ``looked_up`` that grows with x (LeakyRelu, Sigmoid); how many there were.

    Exact: the largest f(x) is f of the largest x. What is made anew has new names, but for what the two make together.
    """
    found = [(node, pool) for node in looked_up if (pool := _pool_of(node)) is not None]
    names = Names(model)
    for node, pool in found:
        value, old = node.inputs[0], pool.outputs[0]
        pooled = ir.Node("", "MaxPool", [value], list(pool.attributes.values()), name=names.fresh("pool"))
        made = ir.Node("", node.op_type, [pooled.outputs[0]], list(node.attributes.values()), name=names.fresh("activation"))
        for one, hint in ((pooled, "pooled"), (made, "activated")):
            one.outputs[0].name, one.outputs[0].type, one.outputs[0].shape = names.fresh(hint), old.type, old.shape
            model.graph.append(one)
        replace(old, made.outputs[0], names)
        sweep([pool])
    if found:
        model.graph.sort()
    return len(found)


def _pool_of(node: ir.Node) -> ir.Node | None:
    """The MaxPool that alone reads what a growing activation makes."""
    if not is_op(node, "LeakyRelu", "Sigmoid") or float(attribute(node, "alpha", 1.0) or 0.0) < 0.0:  # type: ignore[arg-type]
        return None
    value, readers = node.outputs[0], users(node.outputs[0])
    if len(readers) != 1 or not is_op(readers[0], "MaxPool") or value.is_graph_output() or readers[0].graph is not node.graph:
        return None
    second = readers[0].outputs[1:]
    return None if any(one.uses() or one.is_graph_output() for one in second) else readers[0]
