"""The calibration engine says of a model's values what numpy says of them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir
import pytest

from graphwright.compiler.calibration import engine as engine_module
from graphwright.compiler.calibration import stages as stages_module
from graphwright.compiler.core.errors import InputError
from graphwright.compiler.core.sites import all_sites

from .engines import chain, collected, engine, expect, rows
from .graphs import read

MATMUL = """<ir_version: 9, opset_import: ["" : 17]>
g (float[n, t, 5] x) => (float[n, t, 3] y) { y = MatMul(x, w) }"""


def test_a_matmul_sees_the_rows_of_its_input() -> None:
    rng = np.random.default_rng(0)
    model = read(MATMUL, w=rng.standard_normal((5, 3), dtype=np.float32))
    samples = [{"x": rng.standard_normal((2, length, 5), dtype=np.float32)} for length in (4, 1, 7)]
    ((site, statistics),) = engine(model, samples).sites(model, list(all_sites(model)))
    assert site.kind == "MatMul"
    expect(statistics[0], np.concatenate([sample["x"].reshape(-1, 5) for sample in samples]))


def test_a_conv_sees_patches_that_give_its_output() -> None:
    rng = np.random.default_rng(1)
    text = """<ir_version: 9, opset_import: ["" : 17]>
    g (float[n, 4, h, w] x) => (float[n, 6, a, b] y) {
      y = Conv<group = 2, kernel_shape = [3, 2], strides = [2, 1], dilations = [1, 2], pads = [1, 0, 2, 3]>(x, k)
    }"""
    weight = rng.standard_normal((6, 2, 3, 2), dtype=np.float32)
    model = read(text, k=weight)
    sample = {"x": rng.standard_normal((2, 4, 7, 5), dtype=np.float32)}
    ((site, statistics),) = engine(model, [sample]).sites(model, list(all_sites(model)), rows=10_000)
    output = next(engine(model, [sample]).outputs(model))["y"]
    assert isinstance(output, np.ndarray)
    matrices = site.matrices()
    for group, found in enumerate(statistics):
        expected = output[:, 3 * group : 3 * group + 3].transpose(0, 2, 3, 1).reshape(-1, 3)
        np.testing.assert_allclose(found.rows @ matrices[group], expected, rtol=1e-5, atol=1e-5)
        expect(found, found.rows)


def test_sites_of_one_input_share_their_statistics() -> None:
    text = """<ir_version: 9, opset_import: ["" : 17]>
    g (float[n, 4] x) => (float[n, 2] y, float[n, 3] z) { y = MatMul(x, a)  z = Gemm(x, b) }"""
    rng = np.random.default_rng(2)
    model = read(text, a=rng.standard_normal((4, 2), dtype=np.float32), b=rng.standard_normal((4, 3), dtype=np.float32))
    found = dict(engine(model, [{"x": rng.standard_normal((5, 4), dtype=np.float32)}]).sites(model, list(all_sites(model))))
    first, second = found.values()
    assert first[0] is second[0]


@pytest.mark.parametrize("budget", [1, 1 << 30])
def test_ranges_are_those_of_the_values_however_they_are_grouped(budget: int) -> None:
    text = """<ir_version: 9, opset_import: ["" : 17]>
    g (float[n] x) => (float[n] y) { a = Neg(x)  b = Exp(a)  y = Add(a, b) }"""
    model = read(text)
    rng = np.random.default_rng(3)
    samples = [{"x": rng.standard_normal(size, dtype=np.float32)} for size in (1, 40, 3)]
    found = engine(model, samples, budget=budget).ranges(model, ["x", "a", "b", "y"])
    everything = np.concatenate([sample["x"] for sample in samples])
    assert (found["x"].low, found["x"].high) == (everything.min(), everything.max())
    assert (found["a"].low, found["a"].high) == (-everything.max(), -everything.min())
    assert found["b"].histogram.counts.sum() == len(everything)


def test_an_embedding_has_the_share_of_each_row_as_its_diagonal_moment() -> None:
    text = """<ir_version: 9, opset_import: ["" : 17]> g (int64[n, t] x) => (float[n, t, 2] y) { y = Gather(table, x) }"""
    model = read(text, table=np.random.default_rng(4).standard_normal((5, 2)).astype(np.float32))
    samples = [{"x": np.array([[0, 3, -1]])}, {"x": np.array([[3], [-2]])}]
    ((site, (found,)),) = engine(model, samples).sites(model, list(all_sites(model)), rows=9)
    assert site.kind == "Gather" and found.count == 5
    np.testing.assert_allclose(found.moment, [0.2, 0, 0, 0.6, 0.2])
    np.testing.assert_array_equal(found.mean, found.moment)
    np.testing.assert_array_equal(found.abs_max, [1, 0, 0, 1, 1])
    assert found.rows.shape == (0, 5)


def test_a_large_vocabulary_makes_no_square_matrix() -> None:
    text = """<ir_version: 9, opset_import: ["" : 17]> g (int64[t] x) => (float[t, 1] y) { y = Gather(table, x) }"""
    model = read(text, table=np.ones((250_000, 1), np.float32))
    ((_, (found,)),) = engine(model, [{"x": np.arange(9)}]).sites(model, list(all_sites(model)))
    assert found.moment.shape == (250_000,)


def test_rows_with_nan_or_infinities_are_left_out_and_counted() -> None:
    text = """<ir_version: 9, opset_import: ["" : 17]> g (float[n, 2] x) => (float[n, 1] y) { a = Log(x)  y = MatMul(a, w) }"""
    model = read(text, w=np.ones((2, 1), np.float32))
    sample = {"x": np.array([[1, 2], [0, 1], [-1, 1], [4, 8]], np.float32)}
    ((_, (found,)),) = engine(model, [sample]).sites(model, list(all_sites(model)), rows=4)
    assert found.strange == 2
    expect(found, np.log(sample["x"][[0, 3]]))


def test_statistics_do_not_depend_on_how_sites_are_grouped() -> None:
    model, samples = chain(5), rows(3, 50, 1, 8)
    sites = list(all_sites(model))
    together = collected(engine(model, samples).sites(model, sites, rows=6))
    apart = collected(engine(model, samples, budget=1).sites(model, sites, rows=6))
    assert [name for name, _ in together] == [name for name, _ in apart] == [site.name for site in sites]
    for (_, one), (_, other) in zip(together, apart, strict=True):
        for first, second in zip(one, other, strict=True):
            np.testing.assert_allclose(first, second, rtol=1e-12)


def test_sites_come_in_the_order_they_were_asked_for() -> None:
    model = chain(4)
    sites = list(all_sites(model))
    asked = [sites[2], sites[0], sites[3], sites[2]]
    assert [site.name for site, _ in engine(model, rows(2), budget=1).sites(model, asked)] == [site.name for site in asked]


def test_without_moments_none_are_made() -> None:
    model = chain(1)
    ((_, (found,)),) = engine(model, rows(9)).sites(model, list(all_sites(model)), moments=False, rows=3)
    assert found.moment.size == 0 and found.rows.shape == (3, 4) and found.abs_max.shape == (4,)


def test_kept_rows_are_drawn_evenly_and_by_the_seed() -> None:
    model = chain(1, 1)
    samples = [{"v0": np.arange(start, start + 100, dtype=np.float32)[:, None]} for start in range(0, 1000, 100)]
    drawn = [next(engine(model, samples, seed=seed).sites(model, list(all_sites(model)), rows=50))[1][0].rows[:, 0] for seed in range(40)]
    again = next(engine(model, samples, seed=3).sites(model, list(all_sites(model)), rows=50))[1][0].rows[:, 0]
    np.testing.assert_array_equal(again, drawn[3])
    assert len({tuple(item) for item in drawn}) == 40 and all(len(set(item)) == 50 for item in drawn)
    share = np.histogram(np.concatenate(drawn), bins=10, range=(0, 1000))[0] / 2000
    np.testing.assert_allclose(share, 0.1, atol=0.03)


INNER = """<ir_version: 9, opset_import: ["" : 17]>
g (float[n, 2] x, bool c) => (float[n, 2] y) {
  a = MatMul(x, w)
  y = If (c) <then_branch = one () => (float[n, 2] p) { b = Neg(a)  p = MatMul(b, w) },
              else_branch = two () => (float[n, 2] q) { q = MatMul(a, w) }>
}"""


def test_what_is_inside_a_branch_is_told_to_be_out_of_sight() -> None:
    model = read(INNER, w=np.eye(2, dtype=np.float32))
    found = engine(model, [{"x": np.ones((1, 2), np.float32), "c": np.array(True)}])
    sites = list(all_sites(model))
    assert [site.name for site, _ in found.sites(model, sites)] == ["a", "q"]  # What the else branch reads is made outside of it.
    assert found.unseen["p"] == "it is inside a subgraph (a branch or the body of a loop)"
    assert list(found.ranges(model, ["a", "b", "nothing"])) == ["a"]
    assert "inside a subgraph" in found.unseen["b"] and "no such value" in found.unseen["nothing"]


def test_texts_sequences_and_empty_values_are_told_to_have_no_range() -> None:
    text = """<ir_version: 9, opset_import: ["" : 17]>
    g (string[n] s, float[m] x) => (string[n] t, float[k] y) { t = Identity(s)  q = SequenceConstruct(x, x)  y = ConcatFromSequence<axis = 0>(q) }"""
    model = read(text)
    found = engine(model, [{"s": np.array(["a"], object), "x": np.zeros(0, np.float32)}])
    ranges = found.ranges(model, ["t", "q", "y"])
    assert ranges == {}
    assert set(found.unseen) == {"t", "q", "y"} and "no finite number" in found.unseen["y"]


def test_inputs_constants_and_outputs_have_ranges() -> None:
    model = chain(2)
    found = engine(model, rows(3)).ranges(model, ["v0", "w1", "v2", "v2"])
    weight = model.graph.initializers["w1"].const_value
    assert weight is not None
    assert found["w1"].high == weight.numpy().max() and set(found) == {"v0", "w1", "v2"}


def test_the_model_asked_about_is_left_alone() -> None:
    model = chain(3)
    before = ir.to_proto(model).SerializeToString(deterministic=True)
    found = engine(model, rows(2))
    found.ranges(model, ["v1"])
    list(found.sites(model, list(all_sites(model))))
    assert ir.to_proto(model).SerializeToString(deterministic=True) == before


def test_a_sample_that_the_model_cannot_run_is_left_out() -> None:
    text = """<ir_version: 9, opset_import: ["" : 17]> g (int64[n] x) => (float[n, 1] y) { y = Gather(table, x) }"""
    model = read(text, table=np.ones((4, 1), np.float32))
    found = engine(model, [{"x": np.array([9])}, {"x": np.array([1, 2])}, {"x": np.array([-7])}])
    assert found.ranges(model, ["y"])["y"].histogram.counts.sum() == 2
    assert [item.name for item in found.data.skipped] == ["sample 0", "sample 2"] and found.samples == 1
    assert "cannot run on these inputs" in found.data.skipped[0].reason


def test_a_model_that_takes_no_sample_is_an_error() -> None:
    text = """<ir_version: 9, opset_import: ["" : 17]> g (int64[n] x) => (float[n, 1] y) { y = Gather(table, x) }"""
    model = read(text, table=np.ones((4, 1), np.float32))
    with pytest.raises(InputError, match="none of the 2 calibration samples .* can be used: sample 0: the model cannot run"):
        engine(model, [{"x": np.array([9])}] * 2).ranges(model, ["y"])


def test_outputs_are_made_one_at_a_time() -> None:
    model = chain(1)
    samples = rows(1, 2, 3)
    found = engine(model, samples).outputs(model)
    assert isinstance(found, Iterator)
    assert [np.asarray(item["v1"]).shape[0] for item in found] == [1, 2, 3]
    assert len(list(engine(model, samples).outputs(model, limit=2))) == 2


def test_progress_is_told_sample_by_sample() -> None:
    model, told = chain(1), []
    found = engine(model, rows(2, 2))
    found.progress = told.append
    found.ranges(model, ["v1"])
    assert told == ["calibrating 1 values: sample 1 of 2", "calibrating 1 values: sample 2 of 2"]


def test_a_moment_of_very_many_rows_is_taken_from_an_even_part_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "ROWS", 3000)
    model = chain(1, 3)
    samples = rows(*[4000] * 3, width=3)
    ((_, (found,)),) = engine(model, samples).sites(model, list(all_sites(model)))
    exact = np.concatenate([sample["v0"] for sample in samples]).astype(np.float64)
    error = np.abs(found.moment - exact.T @ exact / len(exact)).max()
    assert 0 < error < 0.1
    assert found.count == len(exact) and found.high.tolist() == exact.max(axis=0).tolist()


CHAIN = """<ir_version: 9, opset_import: ["" : 17]>
g (float[n, 3, s] x) => (float[n, 2] z) { a = Mul(x, p)  b = Add(a, q)  c = Abs(b)  m = ReduceMean<axes = [2], keepdims = 0>(c)  z = Gemm(m, w) }"""


@pytest.mark.parametrize("in_turn", [False, True])
def test_means_are_those_of_every_channel_over_all_samples(in_turn: bool) -> None:
    rng = np.random.default_rng(5)
    constants = {name: rng.standard_normal((3, 1), dtype=np.float32) for name in "pq"}
    model = read(CHAIN, **constants, w=rng.standard_normal((3, 2), dtype=np.float32))
    samples = [{"x": rng.standard_normal((2, 3, size), dtype=np.float32)} for size in (4, 1, 6)]
    found = dict(engine(model, samples).means(model, ["a", "b", "m", "z"], 2, in_turn=in_turn))
    products = [(sample["x"] * constants["p"]).astype(np.float64) for sample in samples[:2]]
    exact = np.concatenate([one.transpose(0, 2, 1).reshape(-1, 3) for one in products]).mean(axis=0)
    np.testing.assert_allclose(found["a"], exact, rtol=1e-6)
    np.testing.assert_allclose(found["b"], exact + constants["q"][:, 0], rtol=1e-5)
    pooled = np.concatenate([np.abs(one + constants["q"]).mean(axis=2) for one in products])
    np.testing.assert_allclose(found["m"], pooled.mean(axis=0), rtol=1e-5)
    assert [len(mean) for mean in found.values()] == [3, 3, 3, 2]


@pytest.mark.parametrize("memory", [0, 1 << 20])
def test_a_constant_changed_between_means_counts_for_those_that_follow(memory: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages_module, "MEMORY_BYTES", memory)
    model = read(CHAIN, p=np.ones((3, 1), np.float32), q=np.zeros((3, 1), np.float32), w=np.ones((3, 2), np.float32))
    samples = [{"x": np.full((2, 3, 4), number, np.float32)} for number in (1.0, 3.0)]
    found = {}
    for name, mean in engine(model, samples).means(model, ["a", "b", "m", "z"], in_turn=True):
        found[name] = mean
        if name == "b":
            model.graph.initializers["q"].const_value = ir.tensor(np.full((3, 1), 10.0, np.float32), name="q")
    assert {name: mean[0] for name, mean in found.items()} == {"a": 2.0, "b": 2.0, "m": 12.0, "z": 36.0}
