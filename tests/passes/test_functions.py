"""inline-functions: what a call meant is what the body means in its place."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from onnx.reference import ReferenceEvaluator

from graphwright.compiler.core.graph import all_graphs, bind_opsets
from graphwright.compiler.core.ledger import Ledger
from graphwright.compiler.core.passes import Context, format_pipeline, parse_pipeline
from graphwright.compiler.core.reasons import Reasons
from graphwright.compiler.core.wellformed import check
from graphwright.passes.cleanup.functions import InlineFunctions

HEAD = '<ir_version: 10, opset_import: ["" : 21, "local" : 1]>'
IMPORTS = 'domain: "local", opset_import: ["" : 21, "local" : 1]'
X = np.array([[-1.5, 0.0, 2.0], [np.inf, np.nan, -0.0]], np.float32)

MODELS = {
    "plain": f"""{HEAD} g (float[2,3] x) => (float[2,3] y) {{ y = local.f(x, x) }}
        <{IMPORTS}> f (a, b) => (c) {{ t = Add(a, b) c = Relu(t) }}""",
    "twice, with names taken": f"""{HEAD} g (float[2,3] x) => (float[2,3] y) {{ t = local.f(x) t_1 = Neg(t) y = local.f(t_1) }}
        <{IMPORTS}> f (x) => (y) {{ t = Abs(x) t_1 = Neg(t) y = Add(t, t_1) }}""",
    "nested": f"""{HEAD} g (float[2,3] x) => (float[2,3] y) {{ y = local.outer(x) }}
        <{IMPORTS}> outer (a) => (c) {{ t = local.inner(a) c = local.inner(t) }}
        <{IMPORTS}> inner (a) => (c) {{ t = Neg(a) c = Add(t, a) }}""",
    "attributes, defaults and neither": f"""{HEAD} g (float[2,3] x) => (float[2,3] y, float[2,3] z, float[2,3] w) {{
            y = local.f<alpha=0.5>(x) z = local.f(x) w = local.f<alpha=0.1, gamma=3.0>(x) }}
        <{IMPORTS}> f <gamma, alpha: float = 0.25> (a) => (c) {{ t = LeakyRelu<alpha: float = @alpha>(a) c = Selu<gamma: float = @gamma>(t) }}""",
    "attributes handed on": f"""{HEAD} g (float[2,3] x) => (float[2,3] y) {{ y = local.outer<slope=0.5>(x) }}
        <{IMPORTS}> outer <slope> (a) => (c) {{ c = local.inner<alpha: float = @slope>(a) }}
        <{IMPORTS}> inner <alpha> (a) => (c) {{ c = LeakyRelu<alpha: float = @alpha>(a) }}""",
    "optional input missing": f"""{HEAD} g (float[2,3] x, float low) => (float[2,3] y, float[2,3] z) {{ y = local.f(x, , low) z = local.f(x) }}
        <{IMPORTS}> f (a, lo, hi) => (c) {{ c = Clip(a, lo, hi) }}""",
    "output not asked for": f"""{HEAD} g (float[2,3] x) => (float[2,3] y) {{ y = local.f(x) }}
        <{IMPORTS}> f (a) => (c, d) {{ c = Abs(a) d = Neg(a) }}""",
    "second output only": f"""{HEAD} g (float[2,3] x) => (float[2,3] y) {{ , y = local.f(x) }}
        <{IMPORTS}> f (a) => (c, d) {{ c = Abs(a) d = Neg(a) }}""",
    "input handed through": f"""{HEAD} g (float[2,3] x) => (float[2,3] y, float[2,3] z) {{ y, t = local.f(x) z = Abs(t) }}
        <{IMPORTS}> f (a) => (a, a) {{ }}""",
    "output of the graph and read again": f"""{HEAD} g (float[2,3] x) => (float[2,3] y, float[2,3] z) {{ y = local.f(x) z = Neg(y) }}
        <{IMPORTS}> f (a) => (a) {{ }}""",
    "one value for two outputs": f"""{HEAD} g (float[2,3] x) => (float[2,3] y, float[2,3] z) {{ y, z = local.f(x) }}
        <{IMPORTS}> f (a) => (c, c) {{ c = Neg(a) }}""",
    "in a subgraph, with a capture": f"""{HEAD} g (float[2,3] x, bool b) => (float[2,3] y) {{
            t = Neg(x)
            y = If (b) <then_branch = p () => (float[2,3] u) {{ u = local.f(t) }}, else_branch = q () => (float[2,3] v) {{ s = Abs(x) v = local.f(s) }}> }}
        <{IMPORTS}> f (a) => (c) {{ t = Exp(a) c = Add(t, a) }}""",
    "with a subgraph of its own": f"""{HEAD} g (float[2,3] x, bool b) => (float[2,3] y, float[2,3] z) {{ t = Neg(x) y = local.f(x, b) z = local.f(t, b) }}
        <{IMPORTS}> f (a, flag) => (c) {{ t = Exp(a)
            c = If (flag) <then_branch = p () => (u) {{ u = Add(t, a) }}, else_branch = q () => (w) {{ t2 = local.h(a) w = Sub(t, t2) }}> }}
        <{IMPORTS}> h (a) => (c) {{ c = Abs(a) }}""",
    "loop body reads a parameter": f"""{HEAD} g (float[2,3] x) => (float[2,3] y) {{ y = local.f<step=0.5>(x) }}
        <{IMPORTS}> f <step> (a) => (c) {{ n = Constant<value = int64 {{3}}>() k = Constant<value_float: float = @step>()
            c = Loop(n, , a) <body = b (int64 i, bool go, float[2,3] s) => (bool more, float[2,3] next) {{ more = Identity(go) next = Add(s, k) }}> }}""",
    "opset of the function differs where it does not matter": f"""{HEAD} g (float[2,3] x) => (float[2,3] y) {{ y = local.f(x) }}
        <domain: "local", opset_import: ["" : 14]> f (a) => (c) {{ t = Relu(a) c = Add(t, a) }}""",
}

BEYOND_RUNTIME = {"output not asked for", "input handed through", "output of the graph and read again", "one value for two outputs"}
"""Functions that ONNX allows and ONNX Runtime does not take."""


def _load(text: str) -> ir.Model:
    model = ir.from_onnx_text(text)
    bind_opsets(model)
    return model


def _feeds(model: ir.Model) -> dict[str, np.ndarray]:
    known = {"x": X, "low": np.array(1.0, np.float32), "b": np.array(True)}
    return {value.name: known[value.name] for value in model.graph.inputs}


def _refer(model: ir.Model) -> dict[str, np.ndarray]:
    evaluator = ReferenceEvaluator(ir.to_proto(model))
    return dict(zip(evaluator.output_names, evaluator.run(None, _feeds(model)), strict=True))


@pytest.mark.parametrize("name", MODELS)
def test_body_means_what_the_call_meant(name: str, run_onnx, assert_same_bits) -> None:
    model = _load(MODELS[name])
    before = _refer(model) if name in BEYOND_RUNTIME else run_onnx(model, _feeds(model))
    calls = sum(node.domain == "local" for graph in all_graphs(model) for node in graph)
    assert InlineFunctions().run(model, Context()) >= calls > 0
    check(model)
    assert not model.functions and all(node.domain == "" for graph in all_graphs(model) for node in graph)
    assert_same_bits(before, run_onnx(model, _feeds(model)))
    assert InlineFunctions().run(model, Context()) == 0


def test_overloads_are_told_apart(run_onnx) -> None:
    model = _load(f"""{HEAD} g (float[2,3] x) => (float[2,3] y) {{ y = local.f:second(x) }}
        <{IMPORTS}, overload: "first"> f (a) => (c) {{ c = Relu(a) }}
        <{IMPORTS}, overload: "second"> f (a) => (c) {{ c = Neg(a) }}""")
    assert InlineFunctions().run(model, Context()) == 1
    assert [node.op_type for node in model.graph] == ["Neg"] and not model.functions


def test_every_call_asks_the_ledger() -> None:
    model = _load(MODELS["twice, with names taken"])
    assert InlineFunctions().run(model, Context(ledger=Ledger(denied=frozenset({("inline-function", "y")})))) == 1
    assert [node.op_type for node in model.graph] == ["Abs", "Neg", "Add", "Neg", "f"] and len(model.functions) == 1
    check(model)
    context = Context()
    assert InlineFunctions().run(model, context) == 1
    assert [entry.where for entry in context.ledger.entries] == ["y"] and not model.functions


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (f"<{IMPORTS}> f (a) => (c) {{ c = local.f(a) }}", "calls itself"),
        (f"<{IMPORTS}> f (a) => (c) {{ c = local.h(a) }} <{IMPORTS}> h (a) => (c) {{ c = local.f(a) }}", "calls itself"),
        ('<domain: "local", opset_import: ["" : 12]> f (a) => (c) { c = Softmax(a) }', "it uses Softmax of opset 12, and the model imports opset 21"),
        ('<domain: "local", opset_import: ["" : 21, "elsewhere" : 2]> f (a) => (c) { c = elsewhere.Op(a) }', "Op of opset 2"),
    ],
)
def test_what_cannot_be_inlined_stays_with_its_reason(body: str, reason: str) -> None:
    model = _load(f'<ir_version: 10, opset_import: ["" : 21, "local" : 1, "elsewhere" : 1]> g (float[2,3] x) => (float[2,3] y) {{ y = local.f(x) }} {body}')
    context = Context(reasons=Reasons())
    assert InlineFunctions().run(model, context) == 0
    assert reason in context.reasons.misses[0].reason and model.functions


def test_newer_function_form_is_no_older_one() -> None:
    body = "f (a) => (c) { c = Cast<to=1>(a) }"
    for mine, its, inlined in ((24, 21, 1), (21, 24, 0), (23, 23, 1)):
        model = _load(f"""<ir_version: 10, opset_import: ["" : {mine}, "local" : 1]> g (float[2,3] x) => (float[2,3] y) {{ y = local.f(x) }}
            <domain: "local", opset_import: ["" : {its}]> {body}""")
        assert InlineFunctions().run(model, Context()) == inlined


def test_domains_that_only_the_function_imports_are_imported() -> None:
    model = _load("""<ir_version: 10, opset_import: ["local" : 1]> g (float[2,3] x) => (float[2,3] y) { y = local.f(x) }
        <domain: "local", opset_import: ["" : 21, "com.microsoft" : 1]> f (a) => (c) { t = com.microsoft.QuickGelu(a) c = Neg(t) }""")
    assert InlineFunctions().run(model, Context()) == 1
    assert model.opset_imports == {"local": 1, "": 21, "com.microsoft": 1}
    check(model)


def test_symbols_of_the_function_do_not_become_the_models() -> None:
    model = _load(MODELS["twice, with names taken"])
    (function,) = model.functions.values()
    for node in function:
        node.outputs[0].shape = ir.Shape(["N", 3])
    InlineFunctions().run(model, Context())
    symbols = {str(dim) for node in model.graph for value in node.outputs for dim in value.shape or () if not isinstance(dim, int)}
    assert "N" not in symbols


def test_standard_operators_that_are_functions_are_no_calls() -> None:
    model = _load('<ir_version: 10, opset_import: ["" : 21]> g (float[2,3] x) => (float[2,3] y) { y = Gelu(x) }')
    assert InlineFunctions().run(model, Context()) == 0


def test_weights_in_a_body_are_shared_by_its_copies() -> None:
    model = _load(f"""{HEAD} g (float[2,3] x) => (float[2,3] y) {{ t = local.f(x) y = local.f(t) }}
        <{IMPORTS}> f (a) => (c) {{ k = Constant<value = float[3] {{1, 2, 3}}>() c = Mul(a, k) }}""")
    InlineFunctions().run(model, Context())
    first, second = (node.attributes["value"].value for node in model.graph if node.op_type == "Constant")
    assert first is second


def test_metadata_of_the_call_goes_to_the_body() -> None:
    model = _load(MODELS["plain"])
    model.graph[0].metadata_props["origin"] = "layer.3"
    InlineFunctions().run(model, Context())
    assert [node.metadata_props["origin"] for node in model.graph] == ["layer.3", "layer.3"]


def test_pass_reads_and_writes_as_text() -> None:
    assert parse_pipeline(format_pipeline([InlineFunctions()])) == (InlineFunctions(),)
