"""recover: a compressed model answers more as the original did, on data it has not seen; what was cut stays cut, and refusals say why."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from graphwright.compiler.core.errors import NoChangeError, TargetError, UsageError
from graphwright.compiler.core.graph import clone_model
from graphwright.compiler.core.passes import format_pass, parse_pipeline
from graphwright.passes.differentiable.graph import TorchGraph
from graphwright.passes.recover.recover import Recover

from .recovered_models import CONVOLVED, KERNELS, NET, WEIGHTS, context, drawn, off, piped, samples

pytest.importorskip("torch")

Run = Callable[..., dict[str, Any]]
DATA, UNSEEN = samples((4, 16)), samples((4, 16), seed=2)
PRUNED = "prune-structured{ratio=0.3,of=members,refit=false}"


@pytest.fixture(scope="module")
def net() -> ir.Model:
    return drawn(NET, WEIGHTS)


@pytest.fixture(scope="module")
def pruned(net: ir.Model) -> ir.Model:
    return piped(net, PRUNED, DATA)[0]


def sparse(model: ir.Model, share: float = 0.6) -> ir.Model:
    copy = clone_model(model)
    for value in copy.graph.initializers.values():
        content = value.const_value.numpy().copy()
        if content.ndim > 1:
            content[np.abs(content) < np.quantile(np.abs(content), share)] = 0
            value.const_value = ir.tensor(content, name=value.name)
    return copy


def zeros(model: ir.Model) -> dict[str, np.ndarray]:
    return {value.name: value.const_value.numpy() == 0 for value in model.graph.initializers.values() if len(value.const_value.shape) > 1}


def recovered(model: ir.Model, original: ir.Model, data: list[dict[str, np.ndarray]] = DATA, **options: Any) -> tuple[ir.Model, Any]:
    copy = clone_model(model)
    told = context(copy, original, data)
    Recover(**{"rate": 0.003, **options}).run(copy, told)
    return copy, told


@pytest.mark.parametrize("options", [{}, {"rank": 4}, {"hidden": "cka"}, {"hidden": "cosine", "outputs": "mse"}, {"outputs": "reverse-kl"}, {"hidden": "none"}])
def test_a_pruned_model_comes_closer_to_the_original_on_data_it_has_not_seen(net: ir.Model, pruned: ir.Model, run_onnx: Run, options: dict[str, Any]) -> None:
    after, told = recovered(pruned, net, steps=120, **options)
    onnx.checker.check_model(ir.to_proto(after), full_check=True)
    assert off(run_onnx, net, after, UNSEEN) < 0.85 * off(run_onnx, net, pruned, UNSEEN)
    assert told.notes[0].startswith("Recovery brought the loss of answers on held-out samples from")
    assert {record.form for record in told.coverage.records.values()} == {"recovered"}


def test_it_stands_in_a_pipeline_behind_what_compresses(net: ir.Model, pruned: ir.Model, run_onnx: Run) -> None:
    after, notes = piped(net, f"{PRUNED},recover{{steps=100}}", DATA)
    assert off(run_onnx, net, after, UNSEEN) < off(run_onnx, net, pruned, UNSEEN)
    assert [note.partition(" ")[0] for note in notes] == ["of", "Recovery"]


def test_its_options_are_read_and_written_as_text() -> None:
    step = Recover(minutes=1.5, rank=8, attention=True, outputs="kl")
    assert parse_pipeline(format_pass(step)) == (step,)


def test_zeros_of_a_sparse_model_stay_zeros_and_the_rest_learns(net: ir.Model, run_onnx: Run) -> None:
    before = sparse(net)
    for options in ({}, {"rank": 4}):
        after, _ = recovered(before, net, steps=100, **options)
        for name, mask in zeros(before).items():
            assert not after.graph.initializers[name].const_value.numpy()[mask].any()
            assert (after.graph.initializers[name].const_value.numpy()[~mask] != before.graph.initializers[name].const_value.numpy()[~mask]).any()
        assert off(run_onnx, net, after, UNSEEN) < 0.8 * off(run_onnx, net, before, UNSEEN)


def test_low_rank_differences_have_that_rank_and_are_folded_in(net: ir.Model, pruned: ir.Model) -> None:
    after, _ = recovered(pruned, net, steps=60, rank=3)
    for name in ("A", "C", "D", "F"):
        change = after.graph.initializers[name].const_value.numpy() - pruned.graph.initializers[name].const_value.numpy()
        spread = np.linalg.svd(change.astype(np.float64), compute_uv=False)
        assert spread[2] > 1e-5 and (spread[3:] < 1e-5).all()
    assert len(list(after.graph)) == len(list(pruned.graph))


def test_one_seed_gives_one_result(net: ir.Model, pruned: ir.Model) -> None:
    one, other = (recovered(pruned, net, steps=40, seed=3)[0] for _ in range(2))
    third = recovered(pruned, net, steps=40, seed=4)[0]
    contents = [model.graph.initializers["A"].const_value.numpy() for model in (one, other, third)]
    assert np.array_equal(contents[0], contents[1]) and not np.array_equal(contents[0], contents[2])


def test_convolutions_recover_from_pruned_channels(run_onnx: Run) -> None:
    net, data = drawn(CONVOLVED, KERNELS), samples((4, 3, 8, 8), 48)
    before, _ = piped(net, PRUNED, data)
    assert before.graph.initializers["A"].const_value.shape[0] < 12
    after, _ = recovered(before, net, data, steps=100)
    unseen = samples((4, 3, 8, 8), 16, seed=2)
    assert off(run_onnx, net, after, unseen) < 0.8 * off(run_onnx, net, before, unseen)


def test_minutes_are_kept(net: ir.Model, pruned: ir.Model) -> None:
    import time

    start = time.monotonic()
    _, told = recovered(pruned, net, minutes=0.02)
    assert time.monotonic() - start < 4
    assert "steps" in told.notes[0]


def test_samples_of_different_length_learn_together(run_onnx: Run) -> None:
    net = drawn("net (float[n, l, 8] x) => (float[n, l, 4] y) { a = MatMul(x, A) b = Relu(a) y = MatMul(b, B) }", {"A": (8, 32), "B": (32, 4)})
    random = np.random.default_rng(0)
    data, unseen = ([{"x": random.standard_normal((1, 3 + place % 5, 8)).astype(np.float32)} for place in range(60)] for _ in range(2))
    before = sparse(net)
    after, _ = recovered(before, net, data, steps=100)
    alike = [sample for sample in unseen if sample["x"].shape[1] == 4]
    assert off(run_onnx, net, after, alike) < 0.8 * off(run_onnx, net, before, alike)


def test_samples_that_influence_each_other_are_not_fed_together(run_onnx: Run) -> None:
    """A mean over the batch makes every row depend on the others: what is learned from must be what each sample alone gives."""
    text = "net (float[n, 8] x) => (float[n, 4] y) <int64[1] z = {0}> { m = ReduceMean(x, z) c = Sub(x, m) a = MatMul(c, A) b = Relu(a) y = MatMul(b, B) }"
    net = drawn(text, {"A": (8, 32), "B": (32, 4)})
    data, unseen = samples((3, 8)), samples((3, 8), seed=2)
    before = sparse(net)
    after, _ = recovered(before, net, data, steps=100)
    assert off(run_onnx, net, after, unseen) < 0.8 * off(run_onnx, net, before, unseen)


def test_where_nothing_is_better_the_weights_stay_and_it_is_said(net: ir.Model) -> None:
    after, told = recovered(net, net, steps=20, rate=0.5)
    for name, value in net.graph.initializers.items():
        assert np.array_equal(after.graph.initializers[name].const_value.numpy(), value.const_value.numpy())
    assert told.notes[0].startswith("Recovery changed nothing: it did not bring answers on held-out samples closer (loss ")
    assert not told.coverage.taken


def test_a_loss_that_is_no_number_ends_it_with_the_best_state(net: ir.Model, pruned: ir.Model) -> None:
    after, told = recovered(pruned, net, steps=50, rate=1e30)
    assert all(np.isfinite(value.const_value.numpy()).all() for value in after.graph.initializers.values())
    assert "Recovery" in told.notes[0]


def test_answers_that_are_no_numbers_from_the_start_are_named(net: ir.Model) -> None:
    broken = clone_model(net)
    broken.graph.initializers["F"].const_value = ir.tensor(np.full((32, 6), np.nan, np.float32), name="F")
    _, told = recovered(broken, net, steps=5)
    assert told.notes == ["Recovery changed nothing: the answers were no numbers before it began."]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "needs to know how long: minutes=15, or steps=1000"),
        ({"steps": 5, "outputs": "l1"}, "compares outputs by auto, kl"),
        ({"steps": 5, "hidden": "l1"}, "hidden states by mse, cosine"),
        ({"steps": 5, "rank": -1}, "takes a rank from 0 on"),
        ({"minutes": -1.0}, "needs to know how long"),
    ],
)
def test_options_that_mean_nothing_are_refused(net: ir.Model, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Recover(**options).run(clone_model(net), context(net, net, DATA))


def test_it_needs_calibration_data_an_original_and_something_to_learn(net: ir.Model) -> None:
    told = context(net, net, DATA)
    told.calibrator = None
    with pytest.raises(UsageError, match="learns from real inputs: --calibration FILE"):
        Recover(steps=5).run(clone_model(net), told)
    with pytest.raises(UsageError, match="put it behind a pass that compresses"):
        Recover(steps=5).run(clone_model(net), context(net, None, DATA))
    bare = drawn("net (float[n, 16] x) => (float[n, 16] y) { y = Relu(x) }", {})
    with pytest.raises(NoChangeError, match="there is nothing to learn"):
        Recover(steps=5).run(bare, context(bare, bare, DATA))


def test_an_operator_that_torch_does_not_compute_is_named() -> None:
    text = "net (float[n, 16] x) => (float[n, 4] y) { a = MatMul(x, A) i = NonZero(a) f = Cast<to = 1>(i) s = ReduceSum(f) y = Add(a, s) }"
    strange = drawn(text, {"A": (16, 4)})
    with pytest.raises(TargetError, match="ai.onnx::NonZero cannot be differentiated here"):
        Recover(steps=5).run(clone_model(strange), context(strange, strange, DATA))


def test_what_torch_trained_is_what_the_runtime_computes(net: ir.Model, pruned: ir.Model, run_onnx: Run) -> None:
    after, _ = recovered(pruned, net, steps=60, rank=2)
    found = TorchGraph.of(after, "cpu").numpy(UNSEEN[0])["y"]
    np.testing.assert_allclose(found, run_onnx(after, UNSEEN[0])["y"], rtol=1e-4, atol=1e-5)
