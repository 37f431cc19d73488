"""recover on quantised graphs: codes and scales learn as in LSQ, what is written is what was trained, and integer kernels still run it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from graphwright.backends.ort.backend import OrtBackend
from graphwright.compiler.core.graph import clone_model, is_op
from graphwright.passes.differentiable.graph import TorchGraph
from graphwright.passes.recover.learnable import learnables
from graphwright.passes.recover.recover import Recover

from .recovered_models import CONVOLVED, KERNELS, context, drawn, off, piped, samples

torch = pytest.importorskip("torch")

Run = Callable[..., dict[str, Any]]
DATA, UNSEEN = samples((4, 3, 8, 8), 48), samples((4, 3, 8, 8), 24, seed=2)


@pytest.fixture(scope="module")
def net() -> ir.Model:
    return drawn(CONVOLVED, KERNELS)


PRUNED = "prune-structured{ratio=0.3,of=members,refit=false}"


@pytest.fixture(scope="module", params=[f"{PRUNED},quantize-static", "quantize-weights{bits=4,method=rtn}", "quantize-weights{bits=3,method=rtn,block=-1}"])
def quantised(request: pytest.FixtureRequest, net: ir.Model) -> ir.Model:
    return piped(net, request.param, DATA)[0]


def recovered(model: ir.Model, original: ir.Model, **options: Any) -> ir.Model:
    copy = clone_model(model)
    Recover(**options).run(copy, context(copy, original, DATA))
    return copy


def codes(model: ir.Model) -> dict[str, np.ndarray]:
    return {name: value.const_value.numpy() for name, value in model.graph.initializers.items() if value.const_value.dtype.name in ("INT8", "INT4", "INT32")}


def test_a_quantised_model_comes_closer_to_the_original_on_data_it_has_not_seen(net: ir.Model, quantised: ir.Model, run_onnx: Run) -> None:
    after = recovered(quantised, net, steps=120, rate=0.005)
    onnx.checker.check_model(ir.to_proto(after), full_check=True)
    assert off(run_onnx, net, after, UNSEEN) < 0.8 * off(run_onnx, net, quantised, UNSEEN)


def test_codes_stay_in_the_range_that_they_had_and_some_change(net: ir.Model, quantised: ir.Model) -> None:
    after = recovered(quantised, net, steps=60, rate=0.005)
    before, found = codes(quantised), codes(after)
    assert before.keys() == found.keys() and before
    changed = 0
    for name, old in before.items():
        new = found[name]
        assert new.dtype == old.dtype
        if old.ndim > 1:
            assert new.astype(int).min() >= old.astype(int).min() and new.astype(int).max() <= old.astype(int).max()
        changed += int((new.astype(int) != old.astype(int)).sum())
    assert changed


def test_what_torch_trained_is_what_the_runtime_computes(net: ir.Model, quantised: ir.Model, run_onnx: Run) -> None:
    after = recovered(quantised, net, steps=40, rate=0.005)
    found = TorchGraph.of(after, "cpu").numpy(UNSEEN[0])["y"]
    np.testing.assert_allclose(found, run_onnx(after, UNSEEN[0])["y"], rtol=1e-3, atol=1e-3)


def test_scales_of_biases_stay_those_of_data_times_weight(net: ir.Model) -> None:
    """Integer kernels add a bias in int32 to sums that count in these steps: they do not look at its scale."""
    after = recovered(piped(net, f"{PRUNED},quantize-static", DATA)[0], net, steps=40, rate=0.005)
    checked = 0
    for node in after.graph:
        makers = [value.producer() if value is not None else None for value in node.inputs]
        if is_op(node, "Conv", "Gemm") and len(makers) == 3 and makers[2] is not None:
            scales = [maker.inputs[1].const_value.numpy() for maker in makers]
            np.testing.assert_allclose(scales[2], scales[0] * scales[1], rtol=1e-6)
            checked += 1
    assert checked


def test_integer_kernels_of_the_runtime_compute_the_same(net: ir.Model, run_onnx: Run) -> None:
    after = recovered(piped(net, f"{PRUNED},quantize-static", DATA)[0], net, steps=60, rate=0.005)
    runner = OrtBackend().baseline(after)
    plain, fast = (np.concatenate([np.asarray(run(sample)["y"]) for sample in UNSEEN]) for run in (lambda sample: run_onnx(after, sample), runner.run))
    runner.close()
    assert np.square(fast - plain).sum() < 1e-3 * np.square(plain - plain.mean(0)).sum()


def test_scales_of_weights_and_activations_are_learned(net: ir.Model) -> None:
    before = piped(net, f"{PRUNED},quantize-static", DATA)[0]
    after = recovered(before, net, steps=40, rate=0.005)
    names = [item.name for item in learnables(before) if item.kind == "scale"]
    assert len(names) >= 5
    for name in names:
        old, new = (model.graph.initializers[name].const_value.numpy() for model in (before, after))
        assert (new > 0).all() and (new != old).any()


def test_what_recovered_can_be_quantised(net: ir.Model, run_onnx: Run) -> None:
    """prune -> recover -> quantise loses less than prune -> quantise."""
    without, _ = piped(net, f"{PRUNED},quantize-static", DATA)
    with_it, _ = piped(net, f"{PRUNED},recover{{steps=100}},quantize-static", DATA)
    assert any(is_op(node, "QuantizeLinear") for node in with_it.graph)
    assert off(run_onnx, net, with_it, UNSEEN) < 0.8 * off(run_onnx, net, without, UNSEEN)
