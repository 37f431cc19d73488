"""strip-metadata: words go, numbers and names of values stay."""

from __future__ import annotations

import onnx_ir as ir

from graphwright.compiler.core.graph import bind_opsets
from graphwright.compiler.core.ledger import Ledger
from graphwright.compiler.core.passes import Context, format_pipeline, parse_pipeline
from graphwright.passes.cleanup.names import StripMetadata


def _model() -> ir.Model:
    model = ir.from_onnx_text("""<ir_version: 10, opset_import: ["" : 21]> g (float[1] x, bool b) => (float[1] y) {
        t = Neg(x) y = If (b) <then_branch = p () => (float[1] u) { u = Exp(t) }, else_branch = q () => (float[1] v) { v = Abs(t) }> }""")
    bind_opsets(model)
    model.metadata_props["labels"] = "cat,dog"
    model.graph[0].name, model.graph[0].doc_string = "minus", "line 3"
    model.graph[1].name = "choice"
    inner = model.graph[1].attributes["then_branch"].as_graph()
    inner[0].metadata_props["origin"] = "layer.1"
    inner[0].outputs[0].metadata_props["origin"] = "layer.1"
    return model


def test_words_go_and_names_stay() -> None:
    model = _model()
    assert StripMetadata().run(model, Context()) == 3
    assert model.metadata_props == {"labels": "cat,dog"} and model.graph[0].name == "minus"
    assert [value.name for value in (*model.graph.inputs, *model.graph.outputs)] == ["x", "b", "y"]
    assert "origin" not in str(ir.to_proto(model)) and "line 3" not in str(ir.to_proto(model))
    assert StripMetadata().run(model, Context()) == 0


def test_names_of_nodes_go_when_asked() -> None:
    model = _model()
    assert StripMetadata(names=True).run(model, Context()) == 4
    assert not any(node.name for node in model.graph)
    assert StripMetadata(names=True).run(model, Context()) == 0


def test_ledger_says_no() -> None:
    assert StripMetadata().run(_model(), Context(ledger=Ledger(limit=0))) == 0


def test_pass_reads_and_writes_as_text() -> None:
    assert format_pipeline([StripMetadata(names=True)]) == "strip-metadata{names=true}"
    assert parse_pipeline("strip-metadata{names=true}") == (StripMetadata(names=True),)
