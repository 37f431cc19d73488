"""normalise-opset as a whole: all nodes or none, in subgraphs and functions, whatever the imports look like."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from graphwright.compiler.core.graph import all_graphs, bind_opsets
from graphwright.compiler.core.ledger import Ledger
from graphwright.compiler.core.passes import Context, format_pipeline, parse_pipeline
from graphwright.compiler.core.reasons import Reasons
from graphwright.compiler.core.wellformed import check
from graphwright.passes.cleanup.opset import NormaliseOpset
from graphwright.passes.cleanup.opset_adapters.climb import adapters, versions

HARMLESS = {
    "count_include_pad": "0 leaves padding out, as before",
    "ceil_mode": "0 rounds down, as before",
    "dilations": "1 by default, as before",
    "select_last_index": "0 takes the first, as before",
    "saturate": "for float8 only, which came with it",
    "layout": "0 keeps time first, as before",
    "batch_dims": "0 has no batch, as before",
    "linear_before_reset": "0 resets first, as before",
    "storage_order": "0 counts rows first, as before",
    "mode": "DepthToSpace went depth first before it could choose",
    "block_size": "0 is not blocked, as before",
    "output_dtype": "0 takes it from the zero point, as before",
    "axis": "QuantizeLinear and DequantizeLinear had one scale only before they had an axis",
    "allowzero": "0 copies the dimension, as before",
    "noop_with_empty_axes": "0 reduces all, as before",
    "reduction": "none overwrites, as before",
    "start": "0 starts at the first, as before",
    "end": "to the last when absent, as before",
    "largest": "1 takes the largest, as before",
    "sorted": "1 sorts, as before",
    "antialias": "0 does not, as before",
    "axes": "all axes when absent, as before",
    "keep_aspect_ratio_policy": "stretches, as before",
    "seed": "for training only",
    "sparse_value": "one more way to write a constant",
}
"""Attributes that came later and mean, by default, what was before: no adapter is needed for them."""
CONSTANT_FORMS = ("value", "value_float", "value_floats", "value_int", "value_ints", "value_string", "value_strings")


def _load(text: str) -> ir.Model:
    model = ir.from_onnx_text(text)
    bind_opsets(model)
    return model


def _attributes(schema: onnx.defs.OpSchema) -> dict[str, tuple[object, ...]]:
    return {name: (item.type, item.required, item.default_value.SerializeToString()) for name, item in schema.attributes.items()}


def _changes(before: onnx.defs.OpSchema, after: onnx.defs.OpSchema) -> list[str]:
    """What a step changes in an operator's form, but for attributes that came with a harmless default."""
    old, new = _attributes(before), _attributes(after)
    changed = [name for name in old if new.get(name) != old[name]]
    changed += [name for name in new if name not in old and (name not in HARMLESS or after.attributes[name].required)]
    if [item.name for item in before.inputs] != [item.name for item in after.inputs]:
        changed.append("inputs")
    if len(after.outputs) < len(before.outputs):
        changed.append("outputs")
    return changed + (["deprecated"] if after.deprecated else [])


def test_every_step_that_changes_a_form_has_an_adapter() -> None:
    history = {(schema.name, schema.since_version): schema for schema in onnx.defs.get_all_schemas_with_history() if schema.domain == ""}
    without = {}
    for op, since in versions().items():
        for earlier, later in zip(since, since[1:], strict=False):
            changed = _changes(history[op, earlier], history[op, later])
            if changed and (op, later) not in adapters():
                without[op, later] = changed
    explained = {
        ("Clip", 6): ["min", "max"],  # the defaults were there before they were written down; consumed_inputs has its adapter
        ("Constant", 11): ["value"],  # no longer required, since sparse_value is another way
        ("Constant", 12): [name for name in CONSTANT_FORMS if name != "value"],
        ("Pad", 18): ["inputs"],  # axes: all when absent, as before
    }
    assert {key: names for key, names in without.items() if sorted(names) != sorted(explained.get(key, []))} == {}


def test_nodes_in_subgraphs_are_raised_with_constants_of_their_own_graph(run_onnx, assert_same_bits) -> None:
    model = _load("""<ir_version: 8, opset_import: ["" : 11]> g (bool c, float[2,1,3] x) => (float[2,3] y) {
        y = If (c) <then_branch = t () => (float[2,3] a) { a = Squeeze<axes=[1]>(x) },
                    else_branch = e () => (float[2,3] b) { n = Unsqueeze<axes=[0]>(x) b = ReduceMean<axes=[0,2], keepdims=0>(n) }>
    }""")
    feeds = [{"c": np.array(flag), "x": np.arange(6, dtype=np.float32).reshape(2, 1, 3)} for flag in (False, True)]
    before = [run_onnx(model, feed) for feed in feeds]
    assert NormaliseOpset().run(model, Context()) == 1
    check(model)
    assert [len(graph.initializers) for graph in all_graphs(model)] == [0, 1, 2]
    assert all(graph.opset_imports == {"": 21} for graph in all_graphs(model))
    for feed, old in zip(feeds, before, strict=True):
        assert_same_bits(old, run_onnx(model, feed))


def test_one_node_that_cannot_be_raised_keeps_the_whole_model_as_it_is() -> None:
    text = """<ir_version: 7, opset_import: ["" : 9]> g (float[2,3] x) => (float[2,3] y, float[2,3] m) {
        a = Clip<min=0.0>(x)  s, o = Split<split=[1,1]>(a)  y = Concat<axis=0>(s, o)  m, q, v = BatchNormalization(x, x, x, x, x) }"""
    model = _load(text)
    before = ir.to_proto(model).SerializeToString(deterministic=True)
    context = Context(reasons=Reasons())
    assert NormaliseOpset().run(model, context) == 0
    assert ir.to_proto(model).SerializeToString(deterministic=True) == before
    assert context.ledger.entries == []
    (miss,) = context.reasons.misses
    assert miss.where == "m" and "it trains" in miss.reason and "BatchNormalization" in miss.reason


@pytest.mark.parametrize(
    ("opset", "body", "reason"),
    [
        (5, "y = Dropout(x)", "is_test is 0"),
        (5, 'y = Cast<to="COMPLEX7">(x)', "there is no type 'COMPLEX7'"),
        (7, "y = GRUUnit(x, x, x, x)", "opset 7 has no operator GRUUnit"),
        (6, "y = Add<broadcast=1, axis=1>(x, z)", "the rank of the second operand is unknown"),
        (1, "y = Split(x)", "Split-1 has no default"),
        (1, "y = GlobalLpPool<p=2.5>(x)", "2.5 is not a whole number"),
        (8, "y = BatchNormalization<spatial=0>(x, w, w, w, w)", "the scale is not one per activation"),
        (8, "y = Scan<num_scan_inputs=1, body = b (float p) => (float q) { q = Relu(p) }>(w, x)", "sequence_lens"),
        (17, "y = Relu<slope=2.0>(x)", None),
    ],
)
def test_what_has_no_equal_is_refused_with_its_reason(opset: int, body: str, reason: str | None) -> None:
    model = _load(f'<ir_version: 8, opset_import: ["" : {opset}]> g (float[2,3,4,4] x, float[] z, float[3] w) => (float[2,3,4,4] y) {{ {body} }}')
    context = Context(reasons=Reasons())
    assert NormaliseOpset().run(model, context) == (1 if reason is None else 0)
    assert reason is None or reason in context.reasons.misses[0].reason


def test_model_that_imports_only_another_domain_gets_the_standard_one() -> None:
    model = _load("""<ir_version: 8, opset_import: ["com.microsoft" : 1]> g (float[2,3] x) => (float[2,3] y) { y = com.microsoft.QuickGelu(x) }""")
    assert "" not in model.opset_imports
    assert NormaliseOpset().run(model, Context()) == 1
    assert model.opset_imports == {"com.microsoft": 1, "": 21}
    check(model)
    assert NormaliseOpset().run(model, Context()) == 0


def test_standard_nodes_without_an_import_are_taken_for_todays(run_onnx, assert_same_bits) -> None:
    model = _load("""<ir_version: 8, opset_import: ["com.microsoft" : 1]> g (float[2,3,2] x) => (float[2,3,2] y) { y = Softmax(x) }""")
    feeds = {"x": np.arange(12, dtype=np.float32).reshape(2, 3, 2)}
    before = run_onnx(model, feeds)
    assert NormaliseOpset().run(model, Context()) == 1
    assert_same_bits(before, run_onnx(model, feeds))


def test_standard_nodes_without_an_import_in_an_old_form_are_left_alone() -> None:
    model = _load("""<ir_version: 8, opset_import: ["com.microsoft" : 1]> g (float[2,3] x) => (float[3] y) { y = ReduceSum<axes=[0]>(x) }""")
    context = Context(reasons=Reasons())
    assert NormaliseOpset().run(model, context) == 0
    assert "imports no opset" in context.reasons.misses[0].reason and model.opset_imports == {"com.microsoft": 1}


def test_first_ir_versions_meant_opset_1() -> None:
    model = _load("""<ir_version: 8, opset_import: ["" : 1]> g (float[2,3] x, float[3] b) => (float[2,3] y) { y = Add<broadcast=1>(x, b) }""")
    model.graph.opset_imports.clear()
    model.ir_version = 2
    assert NormaliseOpset().run(model, Context()) == 2
    assert model.opset_imports == {"": 21} and model.ir_version == 10


def test_domain_has_one_spelling(run_onnx, assert_same_bits) -> None:
    model = _load("""<ir_version: 8, opset_import: ["ai.onnx" : 12, "ai.onnx.ml" : 2]> g (float[2,3] x) => (float[3] y) {
        s = ai.onnx.ml.Scaler<offset=[1.0], scale=[2.0]>(x)  y = ai.onnx.ReduceSum<axes=[0], keepdims=0>(s) }""")
    feeds = {"x": np.ones((2, 3), np.float32)}
    before = run_onnx(model, feeds)
    assert NormaliseOpset().run(model, Context()) == 2
    assert model.opset_imports == {"": 21, "ai.onnx.ml": 2}
    assert all(node.domain in ("", "ai.onnx.ml") for node in model.graph)
    assert_same_bits(before, run_onnx(model, feeds))


@pytest.mark.parametrize("opset", [21, 22, 23])
def test_newer_models_are_left_as_they_are(opset: int) -> None:
    model = _load(f'<ir_version: 10, opset_import: ["" : {opset}]> g (float[2] x) => (float[2] y) {{ y = Relu(x) }}')
    assert NormaliseOpset().run(model, Context()) == 0
    assert model.opset_imports == {"": opset}


def test_functions_are_raised_with_constant_nodes_and_keep_their_parameters(run_onnx, assert_same_bits) -> None:
    model = _load("""<ir_version: 8, opset_import: ["" : 10, "local" : 1]> g (float[2,1,3] x) => (float[1,10] y) { y = local.f<where=[1], low=0.25>(x) }
        <domain: "local", opset_import: ["" : 10]> f <where, low> (a) => (c) {
            b = Squeeze<axes: ints = @where>(a)  k = Clip<max: float = @low>(b)  p = Pad<pads=[1,0,1,2], value: float = @low>(k)
            r = ReduceSum<axes=[0]>(p)  c = Concat<axis=1>(r, r) }""")
    feeds = {"x": np.arange(6, dtype=np.float32).reshape(2, 1, 3)}
    before = run_onnx(model, feeds)
    assert NormaliseOpset().run(model, Context()) == 1
    (function,) = model.functions.values()
    assert function.opset_imports[""] == 21 and not function.graph.initializers
    assert_same_bits(before, run_onnx(model, feeds))


def test_parameter_that_a_new_input_cannot_be_made_of_is_refused() -> None:
    model = _load("""<ir_version: 8, opset_import: ["" : 12, "local" : 1]> g (float[2,3] x) => (float[2,3] y) { y = local.f<where=1>(x) }
        <domain: "local", opset_import: ["" : 12]> f <where> (a) => (c) { c = Softmax<axis: int = @where>(a) }""")
    context = Context(reasons=Reasons())
    assert NormaliseOpset().run(model, context) == 0
    assert "'axis' is a parameter of the function" in context.reasons.misses[0].reason


def test_ranks_are_inferred_where_the_model_does_not_say(run_onnx) -> None:
    model = _load("""<ir_version: 8, opset_import: ["" : 6]> g (float[2,3,4] x, float[3] b) => (float[2,3,4] y) {
        t = Tanh(x)  s = Sigmoid(b)  y = Mul<broadcast=1, axis=1>(t, s) }""")
    assert NormaliseOpset().run(model, Context()) == 1
    generator = np.random.default_rng(0)
    x, b = generator.standard_normal((2, 3, 4)).astype(np.float32), generator.standard_normal(3).astype(np.float32)
    np.testing.assert_allclose(run_onnx(model, {"x": x, "b": b})["y"], np.tanh(x) / (1 + np.exp(-b))[:, None], rtol=1e-6)


def test_sequence_operators_come_up_unchanged(run_onnx, assert_same_bits) -> None:
    model = _load("""<ir_version: 8, opset_import: ["" : 11]> g (float[4,3] x) => (float[1,3] y, int64 n) {
        s = SplitToSequence<axis=0>(x)  i = Constant<value=int64 {1}>()  e = SequenceErase(s, i)  r = SequenceInsert(e, x, i)
        n = SequenceLength(r)  z = Constant<value=int64 {0}>()  y = SequenceAt(r, z) }""")
    feeds = {"x": np.arange(12, dtype=np.float32).reshape(4, 3)}
    before = run_onnx(model, feeds)
    assert NormaliseOpset().run(model, Context()) == 1
    assert_same_bits(before, run_onnx(model, feeds))


@pytest.mark.parametrize(
    "body",
    [
        "y, m, v = BatchNormalization<training_mode=1, momentum=0.3>(x, s, s, s, s)",
        "y, m, v = BatchNormalization<training_mode=1>(x, s, s, s, s) u = Add(m, v)",
    ],
)
def test_batch_normalization_that_trains_goes_on_training(body: str, run_onnx, assert_same_bits) -> None:
    model = _load(f"""<ir_version: 8, opset_import: ["" : 14]> g (float[2,3,4] x, float[3] s) => (float[2,3,4] y, float[3] m, float[3] v) {{ {body} }}""")
    generator = np.random.default_rng(0)
    feeds = {"x": generator.standard_normal((2, 3, 4)).astype(np.float32), "s": np.array([0.5, 1, 2], np.float32)}
    before = run_onnx(model, {name: array.copy() for name, array in feeds.items()})
    assert NormaliseOpset().run(model, Context()) == 1
    assert model.graph[0].attributes["training_mode"].value == 1
    assert_same_bits(before, run_onnx(model, {name: array.copy() for name, array in feeds.items()}))


def test_ledger_says_no() -> None:
    model = _load('<ir_version: 8, opset_import: ["" : 11]> g (float[2] x) => (float[2] y) { y = Clip(x) }')
    assert NormaliseOpset().run(model, Context(ledger=Ledger(limit=0))) == 0
    assert NormaliseOpset().run(model, Context(ledger=Ledger(denied=frozenset({("normalise-opset", "y")})))) == 0
    assert model.opset_imports == {"": 11}
    context = Context()
    assert NormaliseOpset().run(model, context) == 1
    assert [(entry.rule, entry.where) for entry in context.ledger.entries] == [("normalise-opset", "y")]


def test_names_that_are_taken_are_not_taken_again(run_onnx) -> None:
    model = _load("""<ir_version: 8, opset_import: ["" : 12]> g (float[2,1] y_axes) => (float[2] y) { y = Squeeze<axes=[1]>(y_axes) }""")
    assert NormaliseOpset().run(model, Context()) == 1
    check(model)
    assert run_onnx(model, {"y_axes": np.ones((2, 1), np.float32)})["y"].shape == (2,)


def test_pass_reads_and_writes_as_text() -> None:
    assert format_pipeline([NormaliseOpset()]) == "normalise-opset"
    assert parse_pipeline("normalise-opset") == (NormaliseOpset(),)
