"""permute-channels: the same function, with the weights that matter spread over the groups of n:m."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from graphwright.compiler.core.errors import UsageError
from graphwright.compiler.core.graph import clone_model
from graphwright.compiler.core.passes import Context, parse_pipeline
from graphwright.passes.prune.permute_channels import deal

from .pruned_models import model_of, outputs_of

CHAIN = """m (float[N, 24] x, float[24, 32] A, float[32] a0, float[32, 32] B, float[32, 12] C) => (float[N, 12] y) {
    a = MatMul(x, A)
    b = Relu(a)
    c = MatMul(b, B)
    d = Tanh(c)
    y = MatMul(d, C) }""".replace(" float[32] a0,", "")
CONV = """m (float[N, 3, 8, 8] x, float[16, 3, 3, 3] A, float[16] B, float[8, 16, 3, 3] C) => (float[N, 8, 4, 4] y) {
    a = Conv(x, A, B)
    b = Relu(a)
    y = Conv(b, C) }"""
MIXED = """m (float[N, 24] x, float[24, 32] A, float[32, 12] C) => (float[N, 12] y) {
    a = MatMul(x, A)
    l, r = Split<axis=1, num_outputs=2>(a)
    b = Relu(l)
    c = Tanh(r)
    d = Concat<axis=1>(b, c)
    y = MatMul(d, C) }"""


def run(model: ir.Model, text: str) -> tuple[ir.Model, int]:
    copy = clone_model(model)
    changes = [step.run(copy, Context()) for step in parse_pipeline(text)]
    return copy, changes[0]


def crowded(text: str, opset: int = 17) -> ir.Model:
    """With inputs that matter in the first of every second group of rows."""
    model = model_of(text, opset=opset)
    for name in "BC":
        value = model.graph.initializers.get(name)
        if value is not None and value.const_value is not None and len(value.const_value.shape) > 1:
            content = value.const_value.numpy().copy()
            axis = 1 if content.ndim == 4 else 0
            lead = np.arange(content.shape[axis]) // 4 % 2 == 0
            content *= np.where(lead, 8.0, 1.0).astype(np.float32).reshape([-1 if place == axis else 1 for place in range(content.ndim)])
            value.const_value = ir.tensor(content, name=name)
    return model


@pytest.mark.parametrize(("text", "shape", "groups"), [(CHAIN, (5, 24), 2), (CONV, (2, 3, 8, 8), 1)])
def test_the_function_is_the_same_and_less_is_lost_to_the_pattern(text: str, shape: tuple[int, ...], groups: int) -> None:
    model, feed = crowded(text), {"x": np.random.default_rng(1).normal(size=shape).astype(np.float32)}
    exact = outputs_of(model, feed)[0]
    moved, changes = run(model, "permute-channels")
    assert changes == groups
    np.testing.assert_allclose(outputs_of(moved, feed)[0], exact, rtol=1e-3, atol=1e-3)
    only = "y" if text is CONV else "c+y"
    plain, permuted = (outputs_of(run(start, f"sparsify{{amount=2:4,only={only}}}")[0], feed)[0] for start in (model, moved))
    assert np.square(permuted - exact).sum() < 0.8 * np.square(plain - exact).sum()


def test_channels_that_are_not_treated_alike_stay_where_they_are() -> None:
    model = crowded(MIXED, opset=18)
    assert run(model, "permute-channels")[1] == 0


def test_an_order_that_keeps_no_more_is_not_taken() -> None:
    once, _ = run(crowded(CHAIN), "permute-channels")
    assert run(once, "permute-channels")[1] <= 1


def test_the_greatest_are_dealt_to_different_groups() -> None:
    order = deal(np.array([8.0, 7, 6, 5, 4, 3, 2, 1, 0]), 4)
    assert order.tolist() == [0, 2, 4, 6, 1, 3, 5, 7, 8]


def test_a_share_has_no_groups_to_spread_over() -> None:
    with pytest.raises(UsageError, match="takes n:m"):
        run(crowded(CHAIN), "permute-channels{amount=0.5}")
