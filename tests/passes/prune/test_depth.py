"""drop-blocks: residuals whose output is most like their input go first."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from graphwright.backends.ort.backend import OrtBackend
from graphwright.compiler.calibration.engine import Engine
from graphwright.compiler.calibration.opening import open_calibration
from graphwright.compiler.core.errors import BudgetError, UsageError
from graphwright.compiler.core.shapes import settle_shapes
from graphwright.passes.prune.depth import find_blocks, influence

from .pruned_models import model_of, outputs_of
from .test_structured import error, pruned, samples

BLOCKS = 4
WEIGHTS = ", ".join(f"float[24, 32] A{place}, float[32, 24] B{place}" for place in range(BLOCKS))
BODY = "\n".join(
    f"a{place} = MatMul({'x' if place == 0 else f's{place - 1}'}, A{place})\nr{place} = Relu(a{place})\nb{place} = MatMul(r{place}, B{place})\n"
    f"s{place} = Add({'x' if place == 0 else f's{place - 1}'}, b{place})"
    for place in range(BLOCKS)
)
STACK = f"m (float[N, 24] x, {WEIGHTS}, float[24, 5] O) => (float[N, 5] y) {{\n{BODY}\ny = MatMul(s{BLOCKS - 1}, O) }}"


def stack(scales: tuple[float, ...]) -> ir.Model:
    """Blocks whose outputs are added with these weights."""
    model = model_of(STACK)
    for place, scale in enumerate(scales):
        value = model.graph.initializers[f"B{place}"]
        value.const_value = ir.tensor((value.const_value.numpy() * scale).astype(np.float32), name=f"B{place}")
    settle_shapes(model)
    return model


def test_the_blocks_are_the_sums_of_a_value_and_what_is_computed_from_it() -> None:
    assert [(block.source.name, block.name) for block in find_blocks(stack((1, 1, 1, 1)))] == [("x", "s0"), ("s0", "s1"), ("s1", "s2"), ("s2", "s3")]
    text = "m (float[N, 6] x, float[6, 6] A, float[6, 6] B) => (float[N, 6] y) {\na = MatMul(x, A)\nb = MatMul(x, B)\ny = Add(a, b) }"
    assert not list(find_blocks(model_of(text)))


def test_influence_is_one_minus_the_mean_cosine() -> None:
    model, data = stack((0.3, 0.1, 1, 0.2)), samples((4, 24), 3, 1)
    found = influence(model, list(find_blocks(model)), Engine(open_calibration(data, model), OrtBackend()))
    for place, (before, after) in enumerate([("x", "s0"), ("s0", "s1"), ("s1", "s2"), ("s2", "s3")]):
        one, other = (np.concatenate([value_of(model, name, feeds) for feeds in data]).astype(np.float64) for name in (before, after))
        cosine = (one * other).sum(axis=1) / np.sqrt(np.square(one).sum(axis=1) * np.square(other).sum(axis=1))
        assert found[place] == pytest.approx(1 - cosine.mean(), abs=1e-5)


def value_of(model: ir.Model, name: str, feeds: dict[str, np.ndarray]) -> np.ndarray:
    if name in feeds:
        return feeds[name]
    copy = model.clone()
    copy.graph.outputs.clear()
    copy.graph.outputs.append(next(value for node in copy.graph for value in node.outputs if value.name == name))
    return np.asarray(outputs_of(copy, feeds)[0])


def test_the_block_that_adds_least_goes_first_and_the_rest_computes_what_it_did() -> None:
    model, data = stack((1, 0.05, 1, 1)), samples((4, 24), 4, 1)
    small, context = pruned(model, "drop-blocks{ratio=0.24}", data)
    assert sorted(small.graph.initializers) == ["A0", "A2", "A3", "B0", "B2", "B3", "O"]
    assert {name: record.form for name, record in context.coverage.records.items() if record.form} == {"a1": "dropped", "b1": "dropped"}
    without = stack((1, 0.0, 1, 1))
    np.testing.assert_allclose(outputs_of(small, data[0])[0], outputs_of(without, data[0])[0], rtol=1e-5, atol=1e-5)


def test_similarity_misses_less_than_chance() -> None:
    model, data, other = stack((1, 0.2, 0.7, 0.1)), samples((8, 24), 5, 1), samples((8, 24), 5, 2)
    alike = error(model, pruned(model, "drop-blocks{ratio=0.5}", data)[0], other)
    assert alike < np.mean([error(model, pruned(model, f"drop-blocks{{ratio=0.5,score=chance,seed={seed}}}", data)[0], other) for seed in range(4)])


REFUSED = [("ratio=0", UsageError), ("score=luck", UsageError), ("score=similarity", UsageError), ("score=chance,ratio=0.01", BudgetError)]


@pytest.mark.parametrize(("options", "kind"), REFUSED)
def test_what_cannot_be_asked_for_is_said(options: str, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        pruned(stack((1, 1, 1, 1)), f"drop-blocks{{{options}}}")


def test_a_model_without_residuals_is_left_alone_with_the_reason() -> None:
    text = "m (float[N, 6] x, float[6, 6] A) => (float[N, 6] y) { y = MatMul(x, A) }"
    small, context = pruned(model_of(text), "drop-blocks{score=chance}")
    assert "no sum" in context.coverage.records["y"].why
    assert list(small.graph.initializers) == ["A"]
