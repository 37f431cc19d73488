"""factorize as a pass: what it takes, what it leaves and says, and that nothing else in the model is touched."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from graphwright.compiler.core.errors import GraphwrightError, UsageError
from graphwright.compiler.core.graph import all_graphs, bind_opsets
from graphwright.compiler.core.ledger import Ledger
from graphwright.compiler.core.passes import Context
from graphwright.compiler.core.reasons import Skip, skip

from ..prune.pruned_models import feeds_of, model_of, outputs_of
from .low_rank_models import factorised, low_rank_model, numbers

DEEP = """m (float[N, 48] x, float[48, 96] A, float[96] B, float[96, 64] C, float[64, 80] E) => (float[N, 80] y) {
    a = MatMul(x, A)
    b = Add(a, B)
    c = Relu(b)
    d = MatMul(c, C)
    e = Relu(d)
    y = MatMul(e, E) }"""
CONV = """m (float[N, 8, 10, 10] x, float[64, 8, 3, 3] A, float[64] B, float[48, 64, 3, 3] C) => (float[N, 48, 6, 6] y) {
    a = Conv(x, A, B)
    b = Relu(a)
    y = Conv(b, C) }"""


@dataclass
class Slower:
    """A judge for whom nothing is ever faster."""

    asked: int = 0

    def refusal(self, rule: str, before: ir.Model, after: ir.Model, doubtful: bool) -> Skip | None:
        return None

    def slower(self, rule: str, before: ir.Model, after: ir.Model) -> Skip | None:
        self.asked += 1
        assert [node.op_type for node in after.graph] != [node.op_type for node in before.graph]
        return skip("it is not faster here")


def samples(model: ir.Model, count: int = 12) -> list[dict[str, np.ndarray]]:
    return [feeds_of(model, seed, free=8) for seed in range(count)]


@pytest.mark.parametrize("ratio", [0.2, 0.5])
@pytest.mark.parametrize(("text", "method"), [
    (DEEP, "svd"), (DEEP, "svd_llm"), (CONV, "svd_llm"), (CONV, "tucker"), (CONV, "cp"), (CONV, "spatial_svd"), (DEEP, "losparse"),
])  # fmt: skip
def test_as_many_numbers_go_as_was_asked_for(text: str, method: str, ratio: float) -> None:
    model = model_of(text)
    small, context = factorised(model, f"factorize{{ratio={ratio},method={method},small=true,allocation=uniform}}", samples(model))
    weights = sum(record.parameters for record in context.coverage.records.values())
    assert (numbers(model) - numbers(small)) / weights == pytest.approx(ratio, abs=0.03)
    assert np.isfinite(outputs_of(small, feeds_of(model))[0]).all()


@pytest.mark.parametrize("allocation", ["energy", "measured"])
@pytest.mark.parametrize("of", ["parameters", "flops"])
def test_a_ratio_spread_over_the_sites_is_kept_too(allocation: str, of: str) -> None:
    model = model_of(DEEP)
    small, _ = factorised(model, f"factorize{{ratio=0.4,allocation={allocation},of={of},small=true}}", samples(model))
    biases = 96
    assert numbers(small) - biases == pytest.approx(0.6 * (numbers(model) - biases), rel=0.03)


def test_the_energy_that_is_asked_for_is_kept() -> None:
    model = low_rank_model(DEEP)
    small, context = factorised(model, "factorize{energy=0.999999,small=true}", samples(model))
    assert {record.form for record in context.coverage.records.values()} == {"rank 2"}
    feeds = feeds_of(model)
    np.testing.assert_allclose(outputs_of(small, feeds)[0], outputs_of(model, feeds)[0], rtol=1e-3, atol=1e-3)


def test_a_ratio_from_one_on_is_a_rank() -> None:
    model = model_of(DEEP)
    _, context = factorised(model, "factorize{ratio=7,small=true}")
    assert {record.form for record in context.coverage.records.values()} == {"rank 7"}


def test_a_rank_is_a_multiple_where_that_is_asked_for() -> None:
    model = model_of(DEEP)
    _, context = factorised(model, "factorize{ratio=0.3,multiple=8,small=true}")
    assert all(int(record.form.split()[1]) % 8 == 0 for record in context.coverage.records.values())


def test_what_is_not_faster_stays_unless_the_size_was_asked_for() -> None:
    model, judge = model_of(DEEP), Slower()
    same, context = factorised(model, "factorize{ratio=0.5}", context=Context(judge=judge))
    assert judge.asked == 3 and context.coverage.taken == 0
    assert [node.op_type for node in same.graph] == [node.op_type for node in model.graph]
    assert {record.why for record in context.coverage.records.values()} == {"it is not faster here"}
    _, context = factorised(model, "factorize{ratio=0.5,small=true}", context=Context(judge=judge))
    assert context.coverage.taken == 3 and judge.asked == 3


@pytest.mark.parametrize("method", ["oats", "double_sparse"])
def test_sparse_factors_are_only_made_for_the_size(method: str) -> None:
    model = model_of(DEEP)
    _, context = factorised(model, f"factorize{{ratio=0.5,method={method}}}", samples(model))
    assert context.coverage.taken == 0 and all("ask for the size" in record.why for record in context.coverage.records.values())
    small, context = factorised(model, f"factorize{{ratio=0.5,method={method},small=true}}", samples(model))
    kept = sum(int(np.count_nonzero(value.const_value.numpy())) for value in small.graph.initializers.values() if value.name != "B")  # type: ignore[union-attr]
    assert context.coverage.taken == 3 and kept <= 0.51 * (numbers(model) - 96)


def test_a_weight_that_is_not_finite_is_named_and_left() -> None:
    model = model_of(DEEP)
    content = np.array(model.graph.initializers["C"].const_value.numpy())  # type: ignore[union-attr]
    content[3, 4] = np.nan
    model.graph.initializers["C"].const_value = ir.tensor(content, name="C")
    for text in ("factorize{small=true}", "factorize{small=true,allocation=measured}", "factorize{small=true,method=oats}"):
        _, context = factorised(model, text, samples(model_of(DEEP)) if text != "factorize{small=true}" else None)
        assert context.coverage.records["d"].why == "its weight holds NaN or infinities", text
        assert context.coverage.records["a"].form


def test_depthwise_and_tiny_weights_are_left_with_a_reason() -> None:
    text = """m (float[N, 8, 9, 9] x, float[8, 1, 3, 3] A, float[1, 8, 1, 1] B) => (float[N, 1, 7, 7] y) { a = Conv<group=8>(x, A)\n y = Conv(a, B) }"""
    for method in ("svd", "tucker"):
        small, context = factorised(model_of(text), f"factorize{{ratio=0.5,small=true,method={method}}}")
        assert len(small.graph) == 2 and all(record.why for record in context.coverage.records.values()), context.coverage.records
        assert "one channel" in context.coverage.records["a"].why


def test_a_weight_that_others_read_too_stays_where_the_size_is_asked_for_and_is_theirs_still_where_it_is_not() -> None:
    text = "m (float[N, 24] x, float[24, 24] W) => (float[N, 24] y, float[24, 24] z) { y = MatMul(x, W)\n z = Add(W, W) }"
    model = low_rank_model(text)
    same, context = factorised(model, "factorize{rank=2,small=true}")
    assert "needed elsewhere" in context.coverage.records["y"].why and len(same.graph) == 2
    fast, context = factorised(model, "factorize{rank=2}")
    assert context.coverage.taken == 1
    feeds = feeds_of(model)
    for one, other in zip(outputs_of(fast, feeds), outputs_of(model, feeds), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("calibrated", [False, True])
def test_sites_that_share_a_weight_share_its_factors(calibrated: bool) -> None:
    text = "m (float[N, 24] x, float[24, 24] W) => (float[N, 24] y) { a = MatMul(x, W)\n b = Relu(a)\n y = MatMul(b, W) }"
    model = low_rank_model(text)
    small, context = factorised(model, "factorize{rank=2,small=true},deduplicate-initialisers", samples(model) if calibrated else None)
    assert context.coverage.taken == 2 and len(small.graph.initializers) == 2
    feeds = feeds_of(model)
    np.testing.assert_allclose(outputs_of(small, feeds)[0], outputs_of(model, feeds)[0], rtol=1e-3, atol=1e-4)


BRANCHES = """m (bool c, float[N, 24] x, float[24, 20] W) => (float[N, 20] y) {
    y = If (c) <
        then_branch = t () => (float[N, 20] p) { p = MatMul(x, W) },
        else_branch = e () => (float[N, 20] q) { a = MatMul(x, W)
 q = Neg(a) }
    > }"""


def test_weights_inside_branches_are_factorised() -> None:
    model = low_rank_model(BRANCHES)
    small, context = factorised(model, "factorize{rank=2,small=true}")
    assert context.coverage.taken == 2
    assert sum(node.op_type == "MatMul" for graph in all_graphs(small) for node in graph) == 4
    for choice in (True, False):
        feeds = {**feeds_of(model), "c": np.array(choice)}
        np.testing.assert_allclose(outputs_of(small, feeds)[0], outputs_of(model, feeds)[0], rtol=1e-4, atol=1e-5)


def test_calibration_says_why_it_cannot_see_into_a_branch() -> None:
    model = low_rank_model(BRANCHES.replace("a = MatMul(x, W)", "o = Neg(x)\n a = MatMul(o, W)"))
    data = [{**feeds_of(model), "c": np.array(True)}]
    _, context = factorised(model, "factorize{rank=2,small=true}", data)
    assert context.coverage.taken == 0 and all(record.why for record in context.coverage.records.values())


def test_a_function_is_factorised_where_it_is_called() -> None:
    proto = onnx.parser.parse_model("""<ir_version: 8, opset_import: ["" : 17, "own" : 1]>
        m (float[N, 24] x, float[24, 20] W) => (float[N, 20] y) { y = own.layer(x, W) }
        <domain: "own", opset_import: ["" : 17]> layer (x, w) => (y) { a = MatMul(x, w)\n y = Relu(a) }""")
    rng = np.random.default_rng(0)
    weight = (rng.normal(size=(24, 2)) @ rng.normal(size=(2, 20))).astype(np.float32)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(weight, "W"))
    del proto.graph.input[1]
    model = ir.from_proto(proto)
    bind_opsets(model)
    small, context = factorised(model, "factorize{rank=2,small=true}")
    assert context.coverage.taken == 1
    feeds = {"x": rng.normal(size=(3, 24)).astype(np.float32)}
    np.testing.assert_allclose(outputs_of(small, feeds)[0], outputs_of(model, feeds)[0], rtol=1e-4, atol=1e-4)


def test_a_gemm_that_turns_its_input_over_is_named() -> None:
    model = model_of("m (float[24, N] x, float[24, 20] W) => (float[N, 20] y) { y = Gemm<transA=1>(x, W) }")
    _, context = factorised(model, "factorize{small=true}")
    assert "transA" in context.coverage.records["y"].why


def test_only_and_keep_choose_sites() -> None:
    model = model_of(DEEP)
    _, context = factorised(model, "factorize{small=true,only=a}")
    assert [name for name, record in context.coverage.records.items() if record.form] == ["a"]
    _, context = factorised(model, "factorize{small=true,keep=a+d}")
    assert [name for name, record in context.coverage.records.items() if record.form] == ["y"]


@pytest.mark.parametrize(("text", "told"), [
    ("factorize{ratio=0}", "ratio between 0 and 1"), ("factorize{method=nothing}", "there is no method"), ("factorize{method=svd_llm}", "calibration data"),
    ("factorize{of=seconds}", "parameters or flops"), ("factorize{allocation=vbmf}", "tucker alone"), ("factorize{allocation=measured}", "calibration data"),
    ("factorize{allocation=best}", "there is no allocation"), ("factorize{method=tucker,allocation=energy}", "leave it out"),
])  # fmt: skip
def test_options_that_do_not_exist_or_do_not_go_together_are_refused(text: str, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        factorised(model_of(DEEP), text)


def test_a_change_that_is_denied_leaves_the_site_as_it_is() -> None:
    context = Context(ledger=Ledger(denied=frozenset({("factorize", "d")})))
    small, _ = factorised(model_of(DEEP), "factorize{small=true}", context=context)
    assert [node.op_type for node in small.graph].count("MatMul") == 5 and not context.coverage.records["d"].form


def test_learned_ranks_keep_the_budget_and_lose_less_than_uniform_ones() -> None:
    pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    model = low_rank_model(DEEP)
    for name, noise in (("A", 0.02), ("C", 0.3), ("E", 0.02)):
        value = model.graph.initializers[name]
        content = np.array(value.const_value.numpy())  # type: ignore[union-attr]
        value.const_value = ir.tensor((content + noise * rng.normal(size=content.shape)).astype(np.float32), name=name)
    errors = {}
    for allocation in ("uniform", "learned", "measured"):
        small, context = factorised(model, f"factorize{{ratio=0.5,method=dobi_svd,allocation={allocation},small=true}}", samples(model))
        assert context.coverage.taken >= 2 and numbers(small) - 96 <= 0.505 * (numbers(model) - 96)
        feeds = feeds_of(model, 99, free=50)
        errors[allocation] = float(np.square(outputs_of(small, feeds)[0] - outputs_of(model, feeds)[0]).sum())
    assert max(errors["learned"], errors["measured"]) < errors["uniform"]


def test_ranks_are_not_learned_inside_a_branch() -> None:
    pytest.importorskip("torch")
    model = low_rank_model(BRANCHES)
    with pytest.raises(GraphwrightError, match="branch|differentiated"):
        factorised(model, "factorize{ratio=0.5,method=dobi_svd,small=true}", [{**feeds_of(model), "c": np.array(True)}])
