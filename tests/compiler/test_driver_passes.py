"""Passes and functions of the user's own, checked like any other."""

from __future__ import annotations

import onnx_ir as ir
import pytest

from graphwright.compiler.core.drift import EXACT
from graphwright.compiler.core.errors import (
    UsageError,
)
from graphwright.compiler.core.graph import all_graphs
from graphwright.compiler.core.passes import Context, Pass
from graphwright.compiler.driver import compile_model, explain_cache, optimize_model
from graphwright.compiler.request import Request

from .driving import X, hit, parse

pytestmark = pytest.mark.usefixtures("own_cache", "decide")


class Spoil(Pass):
    """Doubles whatever a Relu gives, and says that this is exact."""

    name = "spoil"
    drift = EXACT

    def run(self, model: ir.Model, context: Context) -> int:
        done = 0
        for graph in all_graphs(model):
            for node in graph:
                if node.op_type == "Relu" and context.ledger.permit("double-relu", node.outputs[0].name or ""):
                    node.op_type = "Neg"
                    done += 1
        return done


RELU = '<ir_version: 10, opset_import: ["" : 21]> g (float[n] x) => (float[n] y) { a = Identity(x) y = Relu(a) }'


def test_a_wrong_rewrite_is_undone_and_named_and_the_rest_stays() -> None:
    done = optimize_model(parse(RELU), Request(level=(*_steps("drop-no-ops"), Spoil())))
    assert [node.op_type for node in done.model.graph] == ["Relu"]
    assert [(entry.rule, entry.where) for record in done.records for entry in record.rolled_back] == [("double-relu", "y")]
    assert done.verified


def _steps(text: str) -> tuple[Pass, ...]:
    from graphwright.compiler.core.passes import parse_pipeline

    return parse_pipeline(text)


def test_a_function_on_a_graphsurgeon_graph_is_a_pass_that_is_checked_like_any_other() -> None:
    pytest.importorskip("onnx_graphsurgeon")

    def skip_identity(graph: object) -> None:
        identity, relu = graph.nodes  # type: ignore[attr-defined]
        relu.inputs = list(identity.inputs)
        graph.cleanup()  # type: ignore[attr-defined]

    def relu_to_neg(graph: object) -> None:
        for node in graph.nodes:  # type: ignore[attr-defined]
            node.op = "Neg" if node.op == "Relu" else node.op

    def nothing(graph: object) -> None:
        pass

    done = optimize_model(parse(RELU), Request(level=(skip_identity,)))
    assert [node.op_type for node in done.model.graph] == ["Relu"] and done.records[0].rules == {"skip-identity": 1}
    assert done.recipe == "graph-surgeon{function=skip-identity}"
    wrong = optimize_model(parse(RELU), Request(level=(relu_to_neg,)))
    assert [node.op_type for node in wrong.model.graph] == ["Identity", "Relu"] and wrong.records[0].rolled_back[0].rule == "relu-to-neg"
    assert optimize_model(parse(RELU), Request(level=(nothing,))).records[0].changes == 0


def test_passes_of_ones_own_are_never_served_from_the_cache() -> None:
    assert not hit(parse(), level=(Spoil(),))
    assert not hit(parse(), level=(Spoil(),))
    assert not hit(parse(), level=_steps("drop-no-ops"))
    assert hit(parse(), level=_steps("drop-no-ops"))


def test_functions_of_ones_own_are_never_served_from_the_cache() -> None:
    pytest.importorskip("onnx_graphsurgeon")
    request = Request(level=(lambda graph: None,))
    assert not compile_model(parse(), X, request).report.cache.hit  # type: ignore[union-attr]
    assert not compile_model(parse(), X, request).report.cache.hit  # type: ignore[union-attr]
    with pytest.raises(UsageError, match="cannot be kept"):
        explain_cache(parse(), X, request)
