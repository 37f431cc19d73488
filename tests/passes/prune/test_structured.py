"""prune-structured: graphs that really shrink, by as much as was asked for, where it is missed least."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
import torch

from graphwright.backends.ort.backend import OrtBackend
from graphwright.compiler.calibration.engine import Engine
from graphwright.compiler.calibration.opening import open_calibration
from graphwright.compiler.core.errors import BudgetError, UsageError
from graphwright.compiler.core.graph import clone_model
from graphwright.compiler.core.passes import Context, parse_pipeline
from graphwright.compiler.core.sites import all_sites
from graphwright.passes.prune.coupling.groups import couple
from graphwright.passes.prune.taylor import Taylor
from graphwright.passes.prune.unstructured.slopes import DRAWS

from .pruned_models import model_of, outputs_of

DEEP = """m (float[N, 24] x, float[24, 64] A, float[64] B, float[64, 32] C, float[32] D, float[32, 96] E, float[96] F, float[96, 10] G,
    float[10] H) => (float[N, 10] y) {
    a = MatMul(x, A)
    b = Add(a, B)
    c = Relu(b)
    d = MatMul(c, C)
    e = Add(d, D)
    f = Relu(e)
    g = MatMul(f, E)
    h = Add(g, F)
    i = Relu(h)
    j = MatMul(i, G)
    y = Add(j, H) }"""
CONV = """m (float[N, 3, 12, 12] x, float[16, 3, 3, 3] A, float[16] B, float[24, 16, 3, 3] C, float[8, 24, 3, 3] E, float[8] F) => (float[N, 8, 6, 6] y) {
    a = Conv(x, A, B)
    b = Relu(a)
    c = Conv(b, C)
    d = Relu(c)
    y = Conv(d, E, F) }"""


def pruned(model: ir.Model, text: str, data: list[dict[str, np.ndarray]] | None = None) -> tuple[ir.Model, Context]:
    copy = clone_model(model)
    context = Context(calibrator=None if data is None else Engine(open_calibration(data, copy), OrtBackend()))
    for step in parse_pipeline(f"constants-to-initialisers,{text},eliminate-dead-code"):
        step.run(copy, context)
    return copy, context


def samples(shape: tuple[int, ...], count: int, seed: int) -> list[dict[str, np.ndarray]]:
    """Samples that vary along few directions, as the inputs of real models do."""
    rng = np.random.default_rng(0)
    width = int(np.prod(shape[1:]))
    mix = rng.normal(size=(6, width))
    draw = np.random.default_rng(seed)
    return [{"x": _sample(draw, mix, shape)} for _ in range(count)]


def _sample(draw: np.random.Generator, mix: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    rows = draw.normal(size=(shape[0], len(mix))) @ mix + 0.1 * draw.normal(size=(shape[0], mix.shape[1]))
    return (rows.reshape(shape) / 3).astype(np.float32)


def error(model: ir.Model, other: ir.Model, data: list[dict[str, np.ndarray]]) -> float:
    """The share of the output's variation that the other model misses."""
    before, after = (np.concatenate([outputs_of(one, feeds)[0] for feeds in data]) for one in (model, other))
    return float(np.square(after - before).sum() / np.square(before - before.mean(axis=0)).sum())


def parameters(model: ir.Model) -> int:
    return sum(int(np.prod(value.shape.numpy())) for value in model.graph.initializers.values() if value.dtype == ir.DataType.FLOAT)


@pytest.mark.parametrize("ratio", [0.1, 0.3, 0.5])
@pytest.mark.parametrize("text", [DEEP, CONV])
def test_as_many_parameters_go_as_was_asked_for(text: str, ratio: float) -> None:
    model = model_of(text)
    small, context = pruned(model, f"prune-structured{{ratio={ratio},of=parameters}}")
    assert parameters(small) / parameters(model) == pytest.approx(1 - ratio, abs=0.03)
    assert context.coverage.taken > 0
    shape = (2, 24) if text is DEEP else (2, 3, 12, 12)
    assert np.isfinite(outputs_of(small, samples(shape, 1, 1)[0])[0]).all()


@pytest.mark.parametrize("score", ["magnitude", "flap", "obs"])
def test_a_fit_to_what_was_misses_less_on_data_it_has_not_seen(score: str) -> None:
    model, data, other = model_of(DEEP), samples((8, 24), 40, 1), samples((8, 24), 10, 2)
    options = f"ratio=0.4,of=members,uniform=true,score={score}"
    plain, _ = pruned(model, f"prune-structured{{{options},refit=false}}", data)
    fitted, _ = pruned(model, f"prune-structured{{{options}}}", data)
    assert error(model, fitted, other) < 0.7 * error(model, plain, other)


def test_a_convolution_gets_a_bias_for_what_its_lost_inputs_were_on_average() -> None:
    model, data = model_of(CONV), samples((1, 3, 12, 12), 30, 1)
    plain, _ = pruned(model, "prune-structured{ratio=0.4,of=members,uniform=true,score=magnitude,refit=false}", data)
    fitted, _ = pruned(model, "prune-structured{ratio=0.4,of=members,uniform=true,score=magnitude}", data)
    assert error(model, fitted, samples((1, 3, 12, 12), 8, 2)) < error(model, plain, samples((1, 3, 12, 12), 8, 2))
    assert all(node.inputs[2] is not None for node in fitted.graph if node.op_type == "Conv")


@pytest.mark.parametrize(("score", "refined"), [("magnitude", "chance"), ("flap", "chance"), ("obs", "flap")])
def test_a_score_misses_less_than_what_it_refines(score: str, refined: str) -> None:
    data, other = samples((8, 24), 40, 1), samples((8, 24), 10, 2)
    found = []
    for name in (score, refined):
        options = f"prune-structured{{ratio=0.4,of=members,uniform=true,score={name},refit={str(score == 'obs').lower()}}}"
        found.append(np.mean([error(model, pruned(model, options, data)[0], other) for model in (model_of(DEEP, seed=seed) for seed in range(4))]))
    assert found[0] < found[1]


def test_what_is_left_of_a_group_is_a_multiple() -> None:
    small, _ = pruned(model_of(DEEP), "prune-structured{ratio=0.3,of=members,uniform=true,multiple=8}")
    shapes = {name: value.shape.numpy() for name, value in small.graph.initializers.items() if value.shape is not None}
    assert [shapes[name][-1] % 8 for name in ("A", "C", "E")] == [0, 0, 0]
    assert shapes["A"][1] < 64


def test_sites_that_were_asked_to_stay_do() -> None:
    model = model_of(DEEP)
    small, context = pruned(model, "prune-structured{ratio=0.3,of=members,uniform=true,keep=d}")
    assert small.graph.initializers["C"].shape == model.graph.initializers["C"].shape
    assert context.coverage.records["j"].form == "pruned"


@pytest.mark.parametrize("options", ["ratio=0", "ratio=1", "of=hope", "score=luck", "score=flap"])
def test_what_cannot_be_asked_for_is_said(options: str) -> None:
    with pytest.raises(UsageError):
        pruned(model_of(DEEP), f"prune-structured{{{options}}}")


def test_members_that_were_always_zero_cost_nothing_and_go_first() -> None:
    model = model_of(DEEP)
    value = model.graph.initializers["A"]
    weight = np.array(value.const_value.numpy())
    weight[:, 5:20] = 0
    value.const_value = ir.tensor(weight, name="A")
    bias = model.graph.initializers["B"]
    flat = np.array(bias.const_value.numpy())
    flat[5:20] = -1
    bias.const_value = ir.tensor(flat, name="B")
    data = samples((8, 24), 20, 1)
    small, _ = pruned(model, "prune-structured{ratio=0.05,of=members,score=flap}", data)
    assert small.graph.initializers["A"].shape.numpy()[1] < 64
    assert error(model, small, data) < 1e-10


def test_no_two_groups_have_one_name() -> None:
    text = """m (float[N, 24] x, float[24, 40] A, float[16, 8] C, float[24, 8] D) => (float[N, 8] y) {
        h = MatMul(x, A)
        sizes = Constant<value_ints=[16, 24]>()
        l, r = Split<axis=1>(h, sizes)
        c = MatMul(l, C)
        d = MatMul(r, D)
        y = Add(c, d) }"""
    model = model_of(text)
    for step in parse_pipeline("constants-to-initialisers"):
        step.run(model, Context())
    names = [group.name for group in couple(model).groups]
    assert len(names) == len(set(names)) == 2
    small, _ = pruned(model_of(text), "prune-structured{ratio=0.5,of=parameters}")
    assert parameters(small) / parameters(model) == pytest.approx(0.5, abs=0.05)


def test_more_than_can_go_is_refused_with_the_weight_that_stays() -> None:
    text = """m (float[N, 24] x, float[24, 8] A, float[8, 24] C, float[24, 300] D) => (float[N, 300] y) {
        h = MatMul(x, A)
        r = Relu(h)
        c = MatMul(r, C)
        s = Add(c, x)
        y = MatMul(s, D) }"""
    with pytest.raises(BudgetError, match=r"50.0% of the parameters was to go, and only .*'D': it is an input of the model"):
        pruned(model_of(text), "prune-structured{ratio=0.5,of=parameters}")


@pytest.mark.parametrize("score", ["taylor", "fisher", "llm-pruner"])
def test_scores_by_gradients_miss_less_than_magnitude(score: str) -> None:
    data, other, models = samples((8, 24), 10, 1), samples((8, 24), 10, 2), [model_of(DEEP, seed=seed) for seed in range(2)]
    options = "ratio=0.4,of=members,refit=false,score="
    errors = {name: [error(model, pruned(model, f"prune-structured{{{options}{name}}}", data)[0], other) for model in models] for name in (score, "magnitude")}
    assert np.mean(errors[score]) < 0.6 * np.mean(errors["magnitude"])


def test_the_gradient_of_a_gate_is_what_taylor_finds() -> None:
    text = "m (float[N, 24] x, float[24, 6] A, float[6, 5] C) => (float[N, 5] y) {\nh = MatMul(x, A)\ny = MatMul(h, C) }"
    model, data = model_of(text), samples((1, 24), 1, 1)
    (group,), sites = couple(model).groups, list(all_sites(model))
    found = Taylor().of_model(model, [group], sites, Engine(open_calibration(data, model), OrtBackend()))[group.name]
    weights = {name: np.asarray(value.const_value.numpy(), np.float64) for name, value in model.graph.initializers.items()}
    hidden = data[0]["x"].astype(np.float64) @ weights["A"]
    output = hidden @ weights["C"]
    size = np.sqrt(np.square(output).mean()) * np.sqrt(output.size)
    draw = torch.Generator().manual_seed(0)
    expected = np.zeros(6)
    for _ in range(DRAWS):
        signs = (torch.randint(0, 2, output.shape, generator=draw) * 2 - 1).numpy()
        expected += np.square(hidden[0] * (weights["C"] @ signs[0]) / size)
    np.testing.assert_allclose(found, expected, rtol=1e-3)
