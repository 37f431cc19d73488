"""Scan-8, which went over a batch at once."""

from __future__ import annotations

import onnx_ir as ir

from .step import Pen, Refusal, attr, drop, given, raises, set_inputs


@raises("Scan", 9)
def nest_batch(node: ir.Node, op: Pen) -> None:
    """Scan-8 over [batch, sequence, ...] -> a Scan over the batch whose body is a Scan over the sequence."""
    if given(node, 0) is not None:
        raise Refusal("its sequences have lengths of their own (sequence_lens)")
    values = [value for value in node.inputs[1:] if value is not None]
    body, directions, scanned = attr(node, "body"), attr(node, "directions"), node.attributes.get_int("num_scan_inputs")
    if body is None or scanned is None or any(found is not None and found.is_ref() for found in (body, directions)):
        raise Refusal("its body, directions or num_scan_inputs are missing, or a parameter of the function")
    inner_body = body.as_graph()
    slices = [ir.Value(name=op.fresh(f"{inner.name}_of_one"), type=inner.type) for inner in inner_body.inputs]
    inner = ir.Node("", "Scan", slices, [body, ir.AttrInt64("num_scan_inputs", scanned)], num_outputs=len(node.outputs), name=op.fresh("scan_of_one"))
    if directions is not None:
        inner.attributes["scan_input_directions"] = ir.AttrInt64s("scan_input_directions", directions.as_ints())
    for made, outer in zip(inner.outputs, node.outputs, strict=True):
        made.name, made.type = op.fresh(f"{outer.name}_of_one"), outer.type
    drop(node, "num_scan_inputs")
    outer_body = ir.Graph(slices, inner.outputs, nodes=[inner], opset_imports=inner_body.opset_imports, name=op.fresh("scan_over_batch"))
    node.attributes["body"] = ir.AttrGraph("body", outer_body)
    node.attributes["num_scan_inputs"] = ir.AttrInt64("num_scan_inputs", len(values))
    set_inputs(node, *values)
