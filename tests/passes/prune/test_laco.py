"""laco: layers are merged where that changes the answers least."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from graphwright.backends.ort.backend import OrtBackend
from graphwright.compiler.calibration.engine import Engine
from graphwright.compiler.calibration.opening import open_calibration
from graphwright.compiler.core.errors import BudgetError, UsageError
from graphwright.compiler.core.graph import clone_model
from graphwright.compiler.core.passes import Context, parse_pipeline
from graphwright.compiler.core.shapes import settle_shapes
from graphwright.passes.prune.laco import find_layers, merge

from .pruned_models import model_of, outputs_of

LAYERS = 5


def layered(zero: tuple[int, ...] = (), seed: int = 0) -> ir.Model:
    """Layers of two residuals each; those of ``zero`` add nothing."""
    weights = ", ".join(f"float[8, 12] A{place}, float[12, 8] B{place}, float[8, 8] C{place}" for place in range(LAYERS))
    body, state = [], "x"
    for place in range(LAYERS):
        body += [f"a{place} = MatMul({state}, A{place})", f"r{place} = Tanh(a{place})", f"b{place} = MatMul(r{place}, B{place})"]
        body += [f"s{place} = Add({state}, b{place})", f"c{place} = MatMul(s{place}, C{place})", f"t{place} = Tanh(c{place})"]
        body += [f"u{place} = Add(s{place}, t{place})"]
        state = f"u{place}"
    model = model_of(f"m (float[N, 8] x, {weights}, float[8, 6] H) => (float[N, 6] y) {{\n{chr(10).join(body)}\ny = MatMul({state}, H) }}", seed=seed)
    for place in range(LAYERS):
        for name in (f"B{place}", f"C{place}"):
            value = model.graph.initializers[name]
            value.const_value = ir.tensor(value.const_value.numpy() * np.float32(0 if place in zero else 0.5), name=name)
    return model


def feeds(seed: int) -> list[dict[str, np.ndarray]]:
    return [{"x": np.random.default_rng(seed + place).normal(size=(16, 8)).astype(np.float32)} for place in range(4)]


def changed(model: ir.Model, text: str) -> tuple[ir.Model, Context]:
    copy = clone_model(model)
    context = Context(calibrator=Engine(open_calibration(feeds(0), copy), OrtBackend()))
    for step in parse_pipeline(f"constants-to-initialisers,{text},eliminate-dead-code"):
        step.run(copy, context)
    return copy, context


def error(model: ir.Model, other: ir.Model) -> float:
    before, after = (np.concatenate([outputs_of(one, sample)[0] for sample in feeds(50)]) for one in (model, other))
    return float(np.square(after - before).sum() / np.square(before).sum())


def test_layers_are_found_by_their_form() -> None:
    model = layered()
    settle_shapes(model)
    assert [[block.name for block in layer] for layer in find_layers(model)] == [[f"s{place}", f"u{place}"] for place in range(LAYERS)]


@pytest.mark.parametrize("place", [0, 2, LAYERS - 2])
def test_a_layer_that_adds_nothing_is_merged_away_for_nothing(place: int) -> None:
    model = layered(zero=(place,))
    small, context = changed(model, "laco{ratio=0.2}")
    assert sum(node.op_type == "MatMul" for node in small.graph) == 3 * (LAYERS - 1) + 1
    assert error(model, small) < 1e-10
    assert context.coverage.taken > 0


def test_merging_adds_what_the_layers_behind_differ_by() -> None:
    model = layered()
    settle_shapes(model)
    weights = {name: np.array(value.const_value.numpy()) for name, value in model.graph.initializers.items()}
    merge(model, 1, 2)
    assert [layer[0].name for layer in find_layers(model)] == ["s0", "s1", "s4"]
    np.testing.assert_allclose(model.graph.initializers["A1"].const_value.numpy(), weights["A2"] + weights["A3"] - weights["A1"], atol=1e-6)


def test_it_misses_less_than_layers_dropped_by_chance() -> None:
    merged, dropped = [], []
    for seed in range(3):
        model = layered(zero=(seed + 1,), seed=seed)
        merged.append(error(model, changed(model, "laco{ratio=0.4}")[0]))
        dropped.append(error(model, changed(model, f"drop-blocks{{ratio=0.4,score=chance,seed={seed}}}")[0]))
    assert np.mean(merged) < np.mean(dropped)


def test_what_cannot_be_asked_for_is_said() -> None:
    with pytest.raises(UsageError):
        changed(layered(), "laco{ratio=0}")
    with pytest.raises(BudgetError, match="one layer is"):
        changed(layered(), "laco{ratio=0.05}")


def test_a_model_without_layers_is_left_alone() -> None:
    model = model_of("m (float[N, 8] x, float[8, 8] A) => (float[N, 8] y) {\na = MatMul(x, A)\ny = Add(x, a) }")
    small, context = changed(model, "laco{ratio=0.5}")
    assert error(model, small) == 0
    assert "no layers that are alike" in context.coverage.records["a"].why
