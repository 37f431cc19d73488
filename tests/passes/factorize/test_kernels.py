"""Convolutions in a row for one: exact where the kernel has the form, smaller, and with the geometry of the one that they stand for."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from graphwright.passes.factorize.cp import Cp
from graphwright.passes.factorize.factors import kernel_of
from graphwright.passes.factorize.method import KernelMethod
from graphwright.passes.factorize.spatial_svd import SpatialSvd
from graphwright.passes.factorize.tucker import Tucker
from graphwright.passes.factorize.vbmf import rank_of

from ..prune.pruned_models import feeds_of, model_of, outputs_of
from .low_rank_models import factorised
from .test_methods import statistics_of

METHODS = [Tucker(), Cp(), SpatialSvd()]
FORMS = {
    "plain": ("[N, 12, 9, 9]", "[16, 12, 3, 3]", ""),
    "steps": ("[N, 12, 9, 9]", "[16, 12, 3, 3]", "<strides=[2, 1], pads=[1, 0, 2, 1]>"),
    "dilated": ("[N, 12, 9, 9]", "[16, 12, 3, 3]", "<dilations=[1, 2], pads=[1, 1, 1, 1]>"),
    "same": ("[N, 12, 9, 9]", "[16, 12, 3, 3]", '<auto_pad="SAME_LOWER", strides=[2, 2]>'),
    "valid": ("[N, 12, 9, 9]", "[16, 12, 3, 2]", '<auto_pad="VALID", strides=[1, 2]>'),
    "groups": ("[N, 24, 9, 9]", "[32, 12, 3, 3]", "<group=2, pads=[1, 1, 1, 1]>"),
    "solid": ("[N, 8, 5, 5, 5]", "[10, 8, 3, 3, 3]", "<pads=[1, 1, 1, 1, 1, 1]>"),
}


def separable(shape: tuple[int, ...], groups: int, rank: int = 2) -> np.ndarray:
    """A kernel [M, C, *taps] of which each group is a sum of products of vectors."""
    rng = np.random.default_rng(1)
    parts = []
    for _ in range(groups):
        total = np.zeros((shape[0] // groups, *shape[1:]))
        for _ in range(rank):
            term = np.ones(())
            for size in total.shape:
                term = np.multiply.outer(term, rng.normal(size=size))
            total += term
        parts.append(total)
    return np.concatenate(parts).astype(np.float32) / 4


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("calibrated", [False, True])
def test_a_separable_kernel_is_the_same_in_parts(method: KernelMethod, form: tuple[str, str, str], calibrated: bool) -> None:
    data, kernel, options = form
    if calibrated and kernel == FORMS["solid"][1]:
        pytest.skip("its second moment takes long")
    made = ", ".join("abcde"[: data.count(",") + 1])
    model = model_of(f"m (float{data} x, float{kernel} W, float{kernel.partition(',')[0]}] B) => (float[{made}] y) {{ y = Conv{options}(x, W, B) }}")
    shape = tuple(model.graph.initializers["W"].shape.numpy())  # type: ignore[union-attr]
    groups = 2 if "group=2" in options else 1
    model.graph.initializers["W"].const_value = ir.tensor(separable(shape, groups), name="W")
    rank = round(2 * max(shape[0] // groups, shape[1]) / min(shape[0] // groups, shape[1])) if method.name == "tucker" else 2
    small, context = factorised(model, f"factorize{{method={method.name},rank={rank},small=true}}", [feeds_of(model, 3)] if calibrated else None)
    assert context.coverage.taken == 1, context.coverage.records
    feeds = feeds_of(model)
    expected = outputs_of(model, feeds)[0]
    np.testing.assert_allclose(outputs_of(small, feeds)[0], expected, rtol=2e-3, atol=2e-3 * float(np.abs(expected).max()))


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_more_rank_loses_less_and_all_of_it_nothing(method: KernelMethod) -> None:
    kernel = np.random.default_rng(0).normal(size=(10, 8, 3, 3))
    most = method.most(kernel.shape)
    errors = []
    for rank in (1, most // 4, most // 2, most):
        stages = method.factor(kernel, None, rank)
        assert sum(stage.weight.size for stage in stages) == method.numbers(kernel.shape, rank)
        errors.append(float(np.linalg.norm(kernel_of(stages) - kernel) / np.linalg.norm(kernel)))
    assert errors == sorted(errors, reverse=True) and errors[-1] < (1e-10 if method.name != "cp" else 0.05)


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_what_is_fitted_to_the_inputs_loses_less_of_the_outputs(method: KernelMethod) -> None:
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(10, 8, 3, 3))
    rows = (rng.normal(size=(800, 20)) @ rng.normal(size=(20, 72)) * np.exp(rng.normal(size=72))).astype(np.float32)
    wide, rank = rows.astype(np.float64), method.most(kernel.shape) // 3

    def lost(stages: list) -> float:
        return float(np.square(wide @ (kernel_of(stages) - kernel).reshape(10, -1).T).sum())

    assert lost(method.factor(kernel, statistics_of(rows), rank)) < lost(method.factor(kernel, None, rank))


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_kernels_of_zeros_and_singular_moments_are_no_trap(method: KernelMethod) -> None:
    for kernel in (np.zeros((6, 5, 3, 3)), np.ones((6, 5, 3, 3)), np.random.default_rng(0).normal(size=(6, 5, 3, 3)) * 1e-20):
        for rows in (np.zeros((9, 45)), np.ones((9, 45))):
            stages = method.factor(kernel, statistics_of(rows.astype(np.float32)), 3)
            assert all(np.isfinite(stage.weight).all() for stage in stages)


@pytest.mark.parametrize(("shape", "told"), [((8, 8, 1, 1), "one tap"), ((8, 8, 5, 1), "one axis"), ((8, 8, 5), "one axis")])
def test_spatial_svd_says_which_kernels_are_not_for_it(shape: tuple[int, ...], told: str) -> None:
    assert told in (SpatialSvd().refusal(shape) or "")


def test_variational_bayes_finds_the_rank_beneath_the_noise() -> None:
    rng = np.random.default_rng(0)
    signal = rng.normal(size=(100, 7)) @ rng.normal(size=(7, 200))
    assert rank_of(signal + 0.5 * rng.normal(size=(100, 200))) == 7
    assert rank_of((signal + 0.5 * rng.normal(size=(100, 200))).T) == 7
    assert rank_of(rng.normal(size=(60, 60))) == 1 and rank_of(np.zeros((5, 7))) == 1


def test_tucker_takes_the_ranks_that_variational_bayes_finds() -> None:
    rng = np.random.default_rng(0)
    core = np.einsum("sr...,os,ir->oi...", rng.normal(size=(6, 6, 3, 3)), rng.normal(size=(32, 6)), rng.normal(size=(32, 6)))
    model = model_of("m (float[N, 32, 7, 7] x, float[32, 32, 3, 3] W) => (float[N, 32, 5, 5] y) { y = Conv(x, W) }")
    model.graph.initializers["W"].const_value = ir.tensor((core + 0.3 * rng.normal(size=core.shape)).astype(np.float32), name="W")
    _, context = factorised(model, "factorize{method=tucker,allocation=vbmf,small=true}")
    assert context.coverage.records["y"].form == "tucker 6"
