"""Coverage tells of each site what became of it."""

from __future__ import annotations

import onnx
import onnx_ir as ir

from graphwright.compiler.core.coverage import Coverage
from graphwright.compiler.core.shapes import settle_shapes
from graphwright.compiler.core.sites import all_sites

TWO = """
<ir_version: 10, opset_import: ["" : 21]>
two (float[batch, 4] x) => (float[batch, 2] y)
<float[4, 3] a = {1,2,3,4,5,6,7,8,9,10,11,12}, float[3, 2] b = {1,2,3,4,5,6}>
{ m = MatMul(x, a) r = Relu(m) y = MatMul(r, b) }
"""


def model() -> ir.Model:
    found = ir.from_proto(onnx.parser.parse_model(TWO))
    settle_shapes(found)
    return found


def test_what_is_taken_and_what_is_left_is_told_with_its_size_and_arithmetic() -> None:
    first, second = all_sites(model())
    coverage = Coverage()
    coverage.take(first, "int8", 8.5, "rtn")
    coverage.leave(second, "it has 2 columns")
    one, two = coverage.records.values()
    assert (one.name, one.kind, one.form, one.method, one.bits, one.why, one.parameters) == ("m", "MatMul", "int8", "rtn", 8.5, "", 12)
    assert (two.name, two.form, two.bits, two.why, two.parameters) == ("y", "", 32.0, "it has 2 columns", 6)
    assert one.flops == 2 * two.flops > 0  # type: ignore[operator]
    assert coverage.taken == 1


def test_the_last_word_on_a_site_counts() -> None:
    first, _ = all_sites(model())
    coverage = Coverage()
    coverage.take(first, "int4", 4.25)
    coverage.leave(first, "int4 is slower here")
    assert [record.why for record in coverage.records.values()] == ["int4 is slower here"] and coverage.taken == 0


def test_sites_that_a_pass_said_nothing_of_are_left_by_name() -> None:
    found = model()
    first, second = all_sites(found)
    coverage = Coverage()
    coverage.take(first, "int8", 8)
    coverage.complete(all_sites(found), "the pass did not say why")
    assert coverage.records[second.name].why == "the pass did not say why" and coverage.records[first.name].form == "int8"


def test_an_operator_without_a_weight_can_be_covered() -> None:
    found = model()
    relu = next(node for node in found.graph if node.op_type == "Relu")
    coverage = Coverage()
    coverage.take(relu, "int8", 8)
    assert coverage.records["r"].parameters == 0 and coverage.records["r"].kind == "Relu"
