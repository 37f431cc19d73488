"""A model goes back to the opset it was lifted from as soon as nothing needs the later one."""

from __future__ import annotations

import onnx_ir as ir
import pytest

from graphwright.compiler.core.engine import LIFTED_FROM
from graphwright.compiler.core.graph import all_graphs, bind_opsets, clone_model, opset
from graphwright.compiler.core.ledger import Ledger
from graphwright.compiler.core.passes import Context
from graphwright.compiler.core.shapes import infer_shapes
from graphwright.compiler.core.wellformed import check
from graphwright.passes.cleanup.settle_opset import SettleOpset


def lifted(body: str, version: int = 23, before: int | None = 21) -> ir.Model:
    model = ir.from_onnx_text(f'<ir_version: 10, opset_import: ["" : {version}]> {body}')
    bind_opsets(model)
    infer_shapes(model)
    if before is not None:
        model.graph.meta[LIFTED_FROM] = before
    return model


PLAIN = "g (float[2,4] x, bool c) => (float[2,4] y) { y = If(c) <then_branch = t () => (float[2,4] a) { a = Relu(x) }, else_branch = e () =>"
SIMPLE = PLAIN + " (float[2,4] b) { b = Identity(x) }> }"
NORM = PLAIN + " (float[2,4] b) <float[4] s = {1,1,1,1}> { b = RMSNormalization(x, s) }> }"
SWISH = "g (float[2,4] x) => (float[2,4] y) { y = Swish(x) }"


def test_a_model_that_no_longer_needs_the_later_opset_goes_back() -> None:
    model = lifted(SIMPLE)
    assert SettleOpset().run(clone_model(model), Context()) == 1
    assert SettleOpset().run(model, Context()) == 1
    assert {opset(graph) for graph in all_graphs(model)} == {21}
    check(model)
    assert SettleOpset().run(model, Context()) == 0


def test_a_model_that_came_with_its_opset_keeps_it() -> None:
    model = lifted(SIMPLE, before=None)
    assert SettleOpset().run(model, Context()) == 0 and opset(model) == 23


@pytest.mark.parametrize(("body", "version", "settled"), [(NORM, 23, 23), (NORM, 24, 23), (SWISH, 24, 24), (SIMPLE, 24, 21)])
def test_a_model_goes_back_no_further_than_its_operators_allow(body: str, version: int, settled: int) -> None:
    model = lifted(body, version)
    assert SettleOpset().run(model, Context()) == (version != settled)
    assert opset(model) == settled
    check(model)


def test_an_attribute_that_only_the_later_form_has_is_a_need() -> None:
    body = "g (float[2] x) => (float8e8m0[2] y) {{ y = Cast<to=24{more}>(x) }}"
    for more in ("", ', round_mode="up"'):
        model = lifted(body.format(more=more), 24)
        assert SettleOpset().run(model, Context()) == 0 and opset(model) == 24


def test_a_denied_change_is_not_made() -> None:
    model = lifted(SIMPLE)
    assert SettleOpset().run(model, Context(ledger=Ledger(limit=0))) == 0 and opset(model) == 23
