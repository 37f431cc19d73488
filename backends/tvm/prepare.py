"""Our canonical graph as one that TVM can take: no functions, no operators that it lacks or gets wrong."""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes.common import InlinePass

from ...compiler.core.fixed import settle_initialisers
from ...compiler.core.graph import bind_opsets, clone_model, erase, replace, sweep
from ...compiler.core.names import Names
from ...compiler.core.shapes import infer_shapes
from .expanding import expand
from .folding import fold

BLOCK = "graphwright.block"
"""Domain of the functions that are planned blocks, and the note that their nodes carry once they are written out."""


def prepare(model: ir.Model) -> ir.Model:
    """A copy of the model that `importing.import_model` takes, with types and shapes; its weights are shared, not copied.

    Nodes of a planned block carry its name in ``node.meta[BLOCK]`` and stand together.
    """
    copy = clone_model(model)
    copy = InlinePass(lambda function: function.domain != BLOCK)(copy).model
    _write_out_blocks(copy)
    settle_initialisers(copy)
    bind_opsets(copy)
    infer_shapes(copy)
    if expand(copy):
        sweep(node for node in reversed(list(copy.graph)) if node.op_type == "SplitToSequence")  # Its parts are slices now.
        infer_shapes(copy)
    if fold(copy):
        infer_shapes(copy)
    return copy


def _write_out_blocks(model: ir.Model) -> None:
    """Put the body of each block in place of its call."""
    names = Names(model)
    for serial, call in enumerate([node for node in model.graph if node.domain == BLOCK]):
        body = model.functions[call.op_identifier()].clone()
        given = dict(zip(body.inputs, (*call.inputs, *[None] * len(body.inputs)), strict=False))
        for inner in body:
            for index, value in enumerate(inner.inputs):
                if value in given:
                    inner.replace_input_with(index, given[value])
        nodes, results = list(body), list(body.outputs)
        body.outputs.clear()
        body.graph.remove(nodes)
        for node in nodes:
            node.meta[BLOCK] = f"{call.op_type}_{serial}"
            node.name = names.fresh(node.name or node.op_type)
            for value in node.outputs:
                if value.name:
                    value.name = names.fresh(value.name)
        model.graph.insert_before(call, nodes)
        for old, new in zip(call.outputs, results, strict=True):
            made = given.get(new, new)
            assert made is not None
            replace(old, made, names)
        erase(call)
    for key in [key for key in model.functions if key[0] == BLOCK]:
        del model.functions[key]
