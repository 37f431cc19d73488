"""slicegpt: what lies in few directions loses nothing when the others are cut off."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from graphwright.backends.ort.backend import OrtBackend
from graphwright.compiler.calibration.engine import Engine
from graphwright.compiler.calibration.opening import open_calibration
from graphwright.compiler.core.errors import UsageError
from graphwright.compiler.core.graph import clone_model
from graphwright.compiler.core.passes import Context, parse_pipeline

from .pruned_models import model_of, outputs_of

WIDTH, KEPT = 16, 10
STREAM = """m (int64[N, S] ids, float[30, 16] E, float[16] G, float[16, 24] A, float[24, 16] B, float[16] K, float[16, 24] C, float[24, 16] D, float[16] L,
    float[16, 20] H) => (float[N, S, 20] y) {
    h = Gather(E, ids)
    n = RMSNormalization<axis=-1>(h, G)
    a = MatMul(n, A)
    r = Relu(a)
    b = MatMul(r, B)
    s = Add(h, b)
    o = RMSNormalization<axis=-1>(s, K)
    c = MatMul(o, C)
    q = Tanh(c)
    d = MatMul(q, D)
    t = Add(s, d)
    u = RMSNormalization<axis=-1>(t, L)
    y = MatMul(u, H) }"""


def stream(seed: int = 0, tail: float = 0.0) -> ir.Model:
    """A model whose stream lies in ten of sixteen directions, but for a ``tail``."""
    model, random = model_of(STREAM, opset=23, seed=seed), np.random.default_rng(seed)
    basis = np.linalg.qr(random.normal(size=(WIDTH, WIDTH)))[0]
    sizes = np.where(np.arange(WIDTH) < KEPT, 1.0, tail)
    for name in ("E", "B", "D"):
        value = model.graph.initializers[name]
        value.const_value = ir.tensor((value.const_value.numpy() @ (basis * sizes) @ basis.T).astype(np.float32), name=name)
    return model


def feeds(count: int, seed: int) -> list[dict[str, np.ndarray]]:
    random = np.random.default_rng(seed)
    return [{"ids": random.integers(0, 30, (4, 9))} for _ in range(count)]


def changed(model: ir.Model, text: str, count: int = 20) -> tuple[ir.Model, Context]:
    copy = clone_model(model)
    context = Context(calibrator=Engine(open_calibration(feeds(count, 1), copy), OrtBackend()))
    for step in parse_pipeline(f"constants-to-initialisers,{text},eliminate-dead-code"):
        step.run(copy, context)
    return copy, context


def error(model: ir.Model, other: ir.Model) -> float:
    before, after = (np.concatenate([outputs_of(one, sample)[0] for sample in feeds(5, 2)]) for one in (model, other))
    return float(np.square(after - before).sum() / np.square(before - before.mean(axis=(0, 1))).sum())


def test_directions_that_hold_nothing_are_cut_for_nothing() -> None:
    model = stream()
    small, context = changed(model, f"slicegpt{{ratio={1 - KEPT / WIDTH}}}")
    shapes = {name: value.shape.numpy() for name, value in small.graph.initializers.items() if value.shape is not None}
    assert sorted(shape for shape in shapes.values() if len(shape) == 2) == sorted([(30, 10), (10, 24), (24, 10), (10, 24), (24, 10), (10, 20)])
    assert error(model, small) < 1e-8
    assert context.coverage.taken > 0


def test_directions_that_hold_least_are_missed_less_than_channels_with_small_weights() -> None:
    found: dict[str, list[float]] = {}
    for seed in range(3):
        model = stream(seed, tail=0.2)
        sliced, _ = changed(model, "slicegpt{ratio=0.375}")
        plain, _ = changed(model, "prune-structured{ratio=0.375,of=members,uniform=true,score=magnitude,refit=false,keep=b+d}")
        fitted, _ = changed(model, "slicegpt{ratio=0.375,refit=true}")
        for name, small in (("sliced", sliced), ("channels", only_stream(model)), ("fitted", fitted)):
            found.setdefault(name, []).append(error(model, small))
        del plain
    assert np.mean(found["sliced"]) < 0.3 * np.mean(found["channels"])
    assert np.mean(found["fitted"]) < np.mean(found["sliced"])


def only_stream(model: ir.Model) -> ir.Model:
    """The stream pruned channel by channel: of the two groups inside the blocks nothing goes."""
    small, _ = changed(model, "prune-structured{ratio=0.375,of=members,uniform=true,score=magnitude,refit=false,only=h+y}")
    return small


def test_a_multiple_is_what_stays() -> None:
    small, _ = changed(stream(), "slicegpt{ratio=0.3,multiple=8}")
    assert small.graph.initializers  # The stream of 16 keeps 11.2, rounded up to 16.
    small, _ = changed(stream(), "slicegpt{ratio=0.5,multiple=8}")
    assert {value.shape.numpy()[-1] for value in small.graph.initializers.values() if value.shape is not None and value.shape.numpy()[:1] == (30,)} == {8}


def test_streams_of_layer_norms_stay_and_the_report_says_so() -> None:
    text = STREAM.replace("RMSNormalization", "LayerNormalization")
    model = model_of(text, opset=23)
    small, context = changed(model, "slicegpt{ratio=0.3}")
    assert any("takes the mean" in note for note in context.notes)
    assert error(model, small) == 0


@pytest.mark.parametrize("options", ["ratio=0", "ratio=1", "multiple=0"])
def test_what_cannot_be_asked_for_is_said(options: str) -> None:
    with pytest.raises(UsageError):
        changed(stream(), f"slicegpt{{{options}}}")
