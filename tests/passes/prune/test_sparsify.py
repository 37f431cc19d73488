"""sparsify: zeros where they are missed least, in every form that a weight has, and nothing else changed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir
import pytest

from graphwright.backends.ort.backend import OrtBackend
from graphwright.compiler.calibration.engine import Engine
from graphwright.compiler.calibration.opening import open_calibration
from graphwright.compiler.core.errors import UsageError
from graphwright.compiler.core.graph import clone_model
from graphwright.compiler.core.passes import Context, parse_pipeline
from graphwright.compiler.core.sites import all_sites
from graphwright.passes.prune.unstructured.pattern import parse_pattern, rows_in_runs, within

from .pruned_models import model_of, outputs_of

Feeds = Sequence[dict[str, np.ndarray]]
FORMS = """m (float[N, 24] x, float[24, 20] A, float[20] O, float[32, 20] B, float[N, 8, 5, 5] z, float[8, 8, 3, 3] C, float[4, 8, 3, 3] D,
    float[16, 2, 2, 2] E, float[16, 32] L) => (float[N, 16] y, float[N, 4, 1, 1] d, float[N, 16, 4, 4] e) {
    p = MatMul(x, A)
    q = Add(p, O)
    r = Relu(q)
    s = Gemm<transB=1>(r, B)
    u = Transpose<perm=[1, 0]>(s)
    l = MatMul(L, u)
    y = Transpose<perm=[1, 0]>(l)
    c = Conv(z, C)
    k = Relu(c)
    d = Conv(k, D)
    e = Conv<group=4>(z, E) }"""
CHAIN = """m (float[N, 32] x, float[32, 48] A, float[48, 48] B, float[48, 40] C) => (float[N, 40] y) {
    a = MatMul(x, A)
    b = Relu(a)
    c = MatMul(b, B)
    d = Relu(c)
    y = MatMul(d, C) }"""
METHODS = ("magnitude", "wanda", "ria", "e-sparse", "sparsegpt", "obd", "obs", "isc", "gblm", "pruner-zero", "dsnot")


def samples(count: int, seed: int = 1, width: int = 24) -> list[dict[str, np.ndarray]]:
    random = np.random.default_rng(seed)
    mixing = np.random.default_rng(0).normal(size=(8, width))
    rows = [random.normal(size=(16, 8)) @ mixing + 0.3 * random.normal(size=(16, width)) for _ in range(count)]
    found: list[dict[str, np.ndarray]] = [{"x": row.astype(np.float32)} for row in rows]
    return found if width != 24 else [{**feed, "z": random.normal(size=(16, 8, 5, 5)).astype(np.float32)} for feed in found]


def sparse(model: ir.Model, text: str, data: Feeds | None = None) -> tuple[ir.Model, Context, int]:
    copy = clone_model(model)
    context = Context(calibrator=None if data is None else Engine(open_calibration(list(data), copy), OrtBackend()))
    changes = sum(step.run(copy, context) for step in parse_pipeline(text))
    return copy, context, changes


def weights(model: ir.Model) -> dict[str, np.ndarray]:
    return {site.name: site.weight.const_value.numpy() for site in all_sites(model)}  # type: ignore[union-attr]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("amount", ["0.5", "2:4", "1:4"])
def test_the_pattern_holds_along_the_inputs_of_every_form(method: str, amount: str) -> None:
    model, context, changes = sparse(model_of(FORMS), f"sparsify{{amount={amount},method={method}}}", samples(4))
    assert changes == 5
    for site in all_sites(model):
        record = context.coverage.records[site.name]
        if site.name == "e":
            assert record.why == "each of its outputs has only 8 weights"
            continue
        order, pattern = rows_in_runs(site, parse_pattern(amount))
        assert all(within(matrix[order] != 0, pattern) for matrix in site.matrices())
        assert record.method == method
        assert "size only" in record.form
        assert record.bits == pytest.approx(32 * (1 - parse_pattern(amount).ratio) + 1, rel=0.04)


@pytest.mark.parametrize("method", ["magnitude", "wanda", "dsnot"])
def test_the_pruned_graph_is_the_graph_with_masked_weights(method: str) -> None:
    model = model_of(FORMS)
    found, _, _ = sparse(model, f"sparsify{{amount=0.6,method={method}}}", samples(4))
    before, after = weights(model), weights(found)
    masked = clone_model(model)
    for site in all_sites(masked):
        site.weight.const_value = ir.tensor(before[site.name] * (after[site.name] != 0), name=site.weight.name)
    feed = samples(1, seed=9)[0]
    for expected, answer in zip(outputs_of(masked, feed), outputs_of(found, feed), strict=True):
        np.testing.assert_array_equal(expected, answer)
    assert [node.op_type for node in found.graph] == [node.op_type for node in model.graph]


def test_groups_of_a_convolution_are_channels_at_one_tap() -> None:
    found, _, _ = sparse(model_of(FORMS), "sparsify{amount=2:4,only=d,method=magnitude}")
    kernel = weights(found)["d"]
    assert ((kernel.reshape(4, 2, 4, 9) != 0).sum(axis=2) == 2).all()


def test_later_sites_are_pruned_for_what_the_pruned_ones_before_feed_them() -> None:
    model, data = model_of(CHAIN), samples(6, width=32)
    together, _, _ = sparse(model, "sparsify{amount=0.7,method=sparsegpt}", data)
    first, _, _ = sparse(model, "sparsify{amount=0.7,method=sparsegpt,only=a}", data)
    second, _, _ = sparse(first, "sparsify{amount=0.7,method=sparsegpt,only=c}", data)
    third, _, _ = sparse(second, "sparsify{amount=0.7,method=sparsegpt,only=y}", data)
    for name, content in weights(together).items():
        np.testing.assert_allclose(content, weights(third)[name], rtol=1e-4, atol=1e-5)
    alone, _, _ = sparse(model, "sparsify{amount=0.7,method=sparsegpt,only=y}", data)
    assert not np.allclose(weights(alone)["y"], weights(together)["y"], atol=1e-3)


def test_sites_of_one_input_see_the_same_input() -> None:
    model = model_of("m (float[N, 24] x, float[24, 20] A, float[24, 28] B) => (float[N, 20] y, float[N, 28] w) {\n y = MatMul(x, A)\n w = MatMul(x, B) }")
    data = [{"x": feed["x"]} for feed in samples(3)]
    both, _, _ = sparse(model, "sparsify{method=sparsegpt}", data)
    alone, _, _ = sparse(model, "sparsify{method=sparsegpt,only=w}", data)
    np.testing.assert_array_equal(weights(both)["w"], weights(alone)["w"])


def test_less_is_lost_than_by_magnitude_where_there_is_calibration_data() -> None:
    model, data, feed = model_of(CHAIN), samples(12, width=32), samples(1, seed=9, width=32)[0]
    exact = outputs_of(model, feed)[0]
    errors = [float(np.square(outputs_of(sparse(model, text, data)[0], feed)[0] - exact).mean()) for text in
              ("sparsify{method=magnitude}", "sparsify{method=wanda}", "sparsify")]  # fmt: skip
    assert errors[2] < 0.5 * errors[1]
    assert errors[1] < errors[0]


def test_without_data_magnitude_chooses_and_with_data_sparsegpt() -> None:
    model = model_of(CHAIN)
    assert {record.method for record in sparse(model, "sparsify")[1].coverage.records.values()} == {"magnitude"}
    assert {record.method for record in sparse(model, "sparsify", samples(2, width=32))[1].coverage.records.values()} == {"sparsegpt"}


@pytest.mark.parametrize("shares", ["owl", "global"])
def test_shares_of_sites_differ_and_their_mean_is_what_was_asked_for(shares: str) -> None:
    model = model_of(CHAIN)
    for scale, site in zip((1.0, 3.0, 0.5), list(all_sites(model)), strict=True):
        content = site.weight.const_value.numpy() * scale  # type: ignore[union-attr]
        content[:, 0] *= 5 * scale
        site.weight.const_value = ir.tensor(content, name=site.weight.name)
    found = weights(sparse(model, f"sparsify{{amount=0.6,method=wanda,shares={shares}}}", samples(4, width=32))[0])
    lost = {name: (content == 0).mean() for name, content in found.items()}
    assert max(lost.values()) - min(lost.values()) > 0.02
    assert np.concatenate([content.reshape(-1) == 0 for content in found.values()]).mean() == pytest.approx(0.6, abs=0.005)


def test_weights_that_are_read_elsewhere_or_not_finite_stay_and_are_named() -> None:
    model = model_of(CHAIN)
    sites = {site.name: site for site in all_sites(model)}
    content = sites["a"].weight.const_value.numpy().copy()  # type: ignore[union-attr]
    content[3, 4] = np.nan
    sites["a"].weight.const_value = ir.tensor(content, name="A")
    found, context, changes = sparse(model, "sparsify{keep=y}")
    assert changes == 1
    assert context.coverage.records["a"].why == "its weight holds NaN or infinities"
    assert context.coverage.records["y"].why == "it was asked to stay"
    np.testing.assert_array_equal(weights(found)["a"], content)


def test_what_is_sparse_already_is_no_change() -> None:
    once, _, changes = sparse(model_of(CHAIN), "sparsify{amount=2:4}")
    twice, context, again = sparse(once, "sparsify{amount=2:4}")
    assert (changes, again) == (3, 0)
    assert {record.why for record in context.coverage.records.values()} == {"it has no weight left to lose to 2:4"}
    assert all(np.array_equal(content, weights(twice)[name]) for name, content in weights(once).items())


@pytest.mark.parametrize("dtype", [ir.DataType.FLOAT16, ir.DataType.DOUBLE])
def test_weights_of_other_types_keep_theirs(dtype: ir.DataType) -> None:
    model = model_of(CHAIN)
    for value in (*model.graph.inputs, *model.graph.outputs, *model.graph.initializers.values(), *(node.outputs[0] for node in model.graph)):
        value.type = ir.TensorType(dtype)
        if value.const_value is not None:
            value.const_value = ir.tensor(value.const_value.numpy().astype(dtype.numpy()), name=value.name)
    data = [{"x": feed["x"].astype(dtype.numpy())} for feed in samples(2, width=32)]
    found, _, changes = sparse(model, "sparsify{amount=2:4}", data)
    assert changes == 3
    assert all(content.dtype == dtype.numpy() and (content == 0).mean() == 0.5 for content in weights(found).values())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("amount=2", "no part of the weights"), ("method=lottery", "no pruning method"), ("method=wanda", "wanda needs calibration data"),
        ("shares=owl", "shares=owl needs calibration data"), ("shares=some", "uniform, owl or global"), ("amount=2:4,shares=global", "does not go with it"),
    ],
)  # fmt: skip
def test_what_cannot_be_asked_for_is_refused(options: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        sparse(model_of(CHAIN), f"sparsify{{{options}}}")


BRANCH = """m (float[N, 32] x, float[32, 20] A, float[32, 20] B, bool c) => (float[N, 20] y) {
    y = If(c) <then_branch = t () => (float[N, 20] p) { p = MatMul(x, A) }, else_branch = e () => (float[N, 20] q) { k = MatMul(x, BRANCH)
        q = Neg(k) }> }"""


def test_weights_in_branches_are_pruned_without_data_and_named_with_data() -> None:
    model = model_of(BRANCH.replace("BRANCH", "B"))
    found, _, changes = sparse(model, "sparsify{amount=2:4}")
    assert changes == 2
    assert all((content == 0).mean() == 0.5 for content in weights(found).values())
    data = [{"x": feed["x"], "c": np.array(True)} for feed in samples(2, width=32)]
    _, context, _ = sparse(model, "sparsify{method=wanda}", data)
    assert {record.why for record in context.coverage.records.values()} == {""} or all("subgraph" in record.why for record in context.coverage.records.values())


def test_a_weight_that_two_branches_read_stays_and_is_named() -> None:
    _, context, changes = sparse(model_of(BRANCH.replace("BRANCH", "A").replace(", float[32, 20] B", "")), "sparsify")
    assert changes == 0
    assert {record.why for record in context.coverage.records.values()} == {"its weight is read elsewhere, too"}
