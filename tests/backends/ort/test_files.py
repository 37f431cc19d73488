"""What a file says of a model is what others may see of it."""

from __future__ import annotations

from pathlib import Path

import onnx
import onnx_ir as ir

from graphwright.backends.ort.files import write_model
from graphwright.compiler.core.graph import bind_opsets
from graphwright.compiler.core.passes import Context, parse_pipeline

CHOICE = """<ir_version: 10, opset_import: ["" : 21]>
g (bool c, float[N,3] x) => (float[N,1] y) {
    made = If(c)<
        then_branch = t () => (a) { k = Constant<value_ints=[1]>() a = ReduceSum(x, k) },
        else_branch = e () => (b) { i = NonZero(x) f = Cast<to=1>(i) o = Constant<value_ints=[1]>() b = ReduceSum(f, o) }>
    y = Identity(made)
}"""


def test_an_output_keeps_its_declared_shape_where_nobody_can_infer_it(tmp_path: Path) -> None:
    model = ir.from_onnx_text(CHOICE)
    bind_opsets(model)
    for step in parse_pipeline("drop-no-ops"):
        assert step.run(model, Context()) == 1
    write_model(model, tmp_path)
    (written,) = onnx.load(tmp_path / "model.onnx").graph.output
    assert written.name == "y"
    assert [dim.dim_param or dim.dim_value for dim in written.type.tensor_type.shape.dim] == ["N", 1]
