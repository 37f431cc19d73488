"""What becomes of a Dropout's mask when its model comes up to opset 21."""

from __future__ import annotations

import onnx_ir as ir

from graphwright.compiler.core.graph import bind_opsets
from graphwright.compiler.core.passes import Context
from graphwright.compiler.core.shapes import infer_shapes
from graphwright.passes.cleanup.opset import NormaliseOpset


def test_an_unused_mask_of_an_old_dropout_becomes_boolean() -> None:
    """Shape inference had given it the dtype of the data, as the old operator did."""
    text = '<ir_version: 3, opset_import: ["" : 7]>\ng (float16[2] x) => (float16[2] y) { a, m = Dropout(x) y = Relu(a) }'
    model = ir.from_onnx_text(text)
    bind_opsets(model)
    infer_shapes(model)
    assert NormaliseOpset().run(model, Context()) == 1
    dropout = next(node for node in model.graph if node.op_type == "Dropout")
    assert dropout.outputs[1].dtype == ir.DataType.BOOL
