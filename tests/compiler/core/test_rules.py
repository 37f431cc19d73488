"""Every rule keeps the promises it carries: it fires on its examples, leaves its look-alikes alone, and changes no number beyond its drift."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.reference
import onnx_ir as ir
import onnxruntime as ort
import pytest
from onnxruntime.capi.onnxruntime_pybind11_state import NotImplemented as NoKernel

from graphwright.compiler.core.drift import Drift
from graphwright.compiler.core.engine import apply_rules
from graphwright.compiler.core.graph import bind_opsets
from graphwright.compiler.core.passes import Context, pass_classes
from graphwright.compiler.core.rule import Rule
from graphwright.compiler.core.rulepass import RulePass, rules_below
from graphwright.compiler.core.shapes import infer_shapes
from graphwright.compiler.core.target import Target
from graphwright.compiler.core.wellformed import check

HEADER = '<ir_version: 10, opset_import: ["" : 21, "com.microsoft" : 1]>\n'
RULES = [rule for kind in pass_classes().values() if issubclass(kind, RulePass) for rule in rules_below(kind.folder)]
EVERYTHING = Target("everything", "ort", kernels=frozenset(kernel for rule in RULES for kernel in rule.kernels))
SPECIAL = np.array([0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, 1e-30, 65504.0])


def model_of(text: str) -> ir.Model:
    model = ir.from_onnx_text(text if text.startswith("<") else HEADER + text)
    bind_opsets(model)
    infer_shapes(model)
    return model


def run(model: ir.Model, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    """Without optimisation; by the reference implementation where ONNX Runtime has no kernel."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    proto = ir.to_proto(model)
    try:
        session = ort.InferenceSession(proto.SerializeToString(), options)
    except NoKernel:
        return list(onnx.reference.ReferenceEvaluator(proto).run(None, feeds))
    return session.run(None, feeds)


def feeds_for(model: ir.Model, size: int, special: bool) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(7)
    feeds = {}
    for value in model.graph.inputs:
        shape = [dim if isinstance(dim, int) else size for dim in value.shape]
        content = generator.normal(size=shape) * 3
        if special and content.size:
            content = generator.choice(SPECIAL, size=shape)
        if not np.issubdtype(value.dtype.numpy(), np.floating):
            content = generator.integers(0, 2 if value.dtype == ir.DataType.BOOL else 5, size=shape)
        feeds[value.name] = content.astype(value.dtype.numpy())
    return feeds


def assert_same(before: list[np.ndarray], after: list[np.ndarray], drift: Drift, special: bool) -> None:
    for old, new in zip(before, after, strict=True):
        assert old.dtype == new.dtype and old.shape == new.shape
        if drift is Drift.EXACT or not np.issubdtype(old.dtype, np.floating):
            bits = old.view(f"u{old.itemsize}") if old.dtype.kind == "f" else old
            new_bits = new.view(f"u{new.itemsize}") if new.dtype.kind == "f" else new
            assert ((bits == new_bits) | (np.isnan(old) & np.isnan(new) if old.dtype.kind == "f" else False)).all()
            continue
        both = np.isfinite(old) & np.isfinite(new)
        if not special and drift is not Drift.DOMAIN:
            assert both.all()
        scale = np.abs(old[both]).max(initial=1.0)
        np.testing.assert_allclose(new[both], old[both], rtol=64 * np.finfo(old.dtype).eps, atol=64 * np.finfo(old.dtype).eps * scale)
        assert (np.isnan(old) == np.isnan(new)).all() or special or drift is Drift.DOMAIN


def everything(rule: Rule) -> Context:
    """A target with every kernel; rules of the domain kind are shown to fire where the user allows it."""
    return Context(EVERYTHING, fast_math=rule.drift is Drift.DOMAIN)


def cases(kind: str) -> list:
    return [pytest.param(rule, text, id=f"{rule.name}-{index}") for rule in RULES for index, text in enumerate(getattr(rule, kind))]


@pytest.mark.parametrize(("rule", "text"), cases("examples"))
def test_a_rule_fires_on_its_examples_and_keeps_the_numbers(rule: Rule, text: str) -> None:
    before, model = model_of(text), model_of(text)
    assert apply_rules(model, [rule], everything(rule)) >= 1
    check(model)
    onnx.checker.check_model(ir.to_proto(model))
    assert apply_rules(model, [rule], everything(rule)) == 0
    for size in (0, 1, 2, 3):
        for special in (False, True):
            feeds = feeds_for(before, size, special)
            assert_same(run(before, feeds), run(model, feeds), rule.drift, special)


@pytest.mark.parametrize(("rule", "text"), cases("leaves"))
def test_a_rule_leaves_its_look_alikes_alone(rule: Rule, text: str) -> None:
    model = model_of(text)
    assert apply_rules(model, [rule], Context(EVERYTHING)) == 0
    check(model)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_a_rule_states_its_equation_and_carries_examples(rule: Rule) -> None:
    assert rule.equation
    assert rule.examples


@pytest.mark.parametrize(("rule", "text"), cases("examples"))
def test_a_rule_fires_inside_a_subgraph(rule: Rule, text: str) -> None:
    """The example as the branch of an If, its inputs captured from outside."""
    model = model_of(text)
    outer = nested(model)
    assert apply_rules(outer, [rule], everything(rule)) >= 1
    check(outer)


def nested(model: ir.Model) -> ir.Model:
    proto = ir.to_proto(model)
    inner = onnx.GraphProto()
    inner.CopyFrom(proto.graph)
    del inner.input[:]
    other = onnx.GraphProto()
    other.CopyFrom(inner)
    for graph, suffix in ((inner, "_t"), (other, "_e")):
        rename(graph, suffix, {value.name for value in proto.graph.input})
    condition = onnx.helper.make_tensor_value_info("condition", onnx.TensorProto.BOOL, [])
    node = onnx.helper.make_node("If", ["condition"], [value.name for value in proto.graph.output], then_branch=inner, else_branch=other)
    graph = onnx.helper.make_graph([node], "outer", [condition, *proto.graph.input], list(proto.graph.output))
    result = ir.from_proto(onnx.helper.make_model(graph, opset_imports=proto.opset_import, ir_version=10))
    bind_opsets(result)
    infer_shapes(result)
    return result


def rename(graph: onnx.GraphProto, suffix: str, kept: set[str]) -> None:
    def new(name: str) -> str:
        return name if not name or name in kept else name + suffix

    for node in graph.node:
        node.input[:] = [new(name) for name in node.input]
        node.output[:] = [new(name) for name in node.output]
        for attribute in node.attribute:
            if attribute.HasField("g"):
                for value in attribute.g.input:
                    value.name = new(value.name)
                rename(attribute.g, suffix, kept)
    for tensor in graph.initializer:
        tensor.name = new(tensor.name)
    del graph.value_info[:]
    for value in graph.output:
        value.name = new(value.name)
