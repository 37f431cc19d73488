"""Large models run in segments: the same bits as in one piece, with only one segment's weights at a time."""

import subprocess
import sys
import textwrap

import ml_dtypes
import numpy as np
import onnx_ir as ir
import pytest

from graphwright.backends.ort import segments
from graphwright.backends.ort.options import DEFAULT, REFERENCE
from graphwright.backends.ort.reference import open_model
from graphwright.backends.ort.segments import SegmentedRunner, cut
from graphwright.backends.ort.skeleton import skeleton_of
from graphwright.compiler.core.errors import InputError, ModelError

LAYER = 64 * 64 * 4
"""Bytes of one weight of these models."""


def weights(seed, shape=(64, 64), dtype=np.float32):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def x(rows=2):
    return weights(99, (rows, 64))


def both(made, feeds, segment_bytes=LAYER):
    """Outputs in one piece and in segments, and the segments."""
    whole = open_model(made, REFERENCE).run(feeds)
    runner = open_model(made, REFERENCE, whole_bytes=0, segment_bytes=segment_bytes)
    assert isinstance(runner, SegmentedRunner)
    return whole, runner.run(feeds), runner.segments


def assert_same(whole, parts):
    assert list(whole) == list(parts)
    for name, value in whole.items():
        if isinstance(value, list):
            assert [item.tobytes() for item in value] == [item.tobytes() for item in parts[name]]
        else:
            assert (value.dtype, value.shape, value.tobytes()) == (parts[name].dtype, parts[name].shape, parts[name].tobytes())


CHAIN = (
    "g (float[N,64] x, float[64,64] a, float[64,64] b, float[64,64] c) => (float[N,64] y)"
    " { s = MatMul(x, a) t = Relu(s) u = MatMul(t, b) v = Add(u, t) y = MatMul(v, c) }"
)


def chain(model):
    return model(CHAIN, a=weights(1), b=weights(2), c=weights(3))


def test_a_chain_is_cut_where_the_next_weight_would_be_too_much(model):
    whole, parts, cuts = both(chain(model), {"x": x()})
    assert_same(whole, parts)
    assert [[node.op_type for node in one.nodes] for one in cuts] == [["MatMul", "Relu"], ["MatMul", "Add"], ["MatMul"]]
    assert [one.weights for one in cuts] == [("a",), ("b",), ("c",)]
    assert [one.needs for one in cuts] == [("x",), ("t",), ("v",)]
    assert [one.makes for one in cuts] == [("t",), ("v",), ("y",)]


@pytest.mark.parametrize("limit", [1, LAYER, 2 * LAYER, 10 * LAYER])
def test_every_limit_gives_the_same_bits(model, limit):
    whole, parts, cuts = both(chain(model), {"x": x()}, limit)
    assert_same(whole, parts)
    assert len(cuts) == {1: 3, LAYER: 3, 2 * LAYER: 2, 10 * LAYER: 1}[limit]


def test_no_segment_holds_more_than_the_limit_unless_one_node_does(model):
    made = model(
        "g (float[N,64] x, float[64,64] a, float[64,192] b, float[192,64] c) => (float[N,64] y) { s = MatMul(x, a) t = MatMul(s, b) y = MatMul(t, c) }",
        a=weights(1), b=weights(2, (64, 192)), c=weights(3, (192, 64)),
    )  # fmt: skip
    whole, parts, cuts = both(made, {"x": x()}, LAYER)
    assert_same(whole, parts)
    assert [one.weights for one in cuts] == [("a",), ("b",), ("c",)]


def test_a_shared_weight_is_in_every_segment_that_reads_it(model):
    text = "g (float[N,64] x, float[64,64] a, float[64,64] b) => (float[N,64] y) { s = MatMul(x, a) t = MatMul(s, b) y = MatMul(t, a) }"
    whole, parts, cuts = both(model(text, a=weights(1), b=weights(2)), {"x": x()})
    assert_same(whole, parts)
    assert [one.weights for one in cuts] == [("a",), ("b",), ("a",)]


def test_skip_connections_over_several_cuts_are_kept(model):
    made = model(
        "g (float[N,64] x, float[64,64] a, float[64,64] b, float[64,64] c) => (float[N,64] y)"
        " { s = MatMul(x, a) t = MatMul(s, b) u = MatMul(t, c) v = Add(u, s) y = Add(v, x) }",
        a=weights(1), b=weights(2), c=weights(3),
    )  # fmt: skip
    whole, parts, _ = both(made, {"x": x()})
    assert_same(whole, parts)


def test_what_no_later_segment_needs_is_let_go(model, monkeypatch):
    seen = []
    original = SegmentedRunner._part

    def watched(self, segment, values):
        seen.append(sorted(values))
        return original(self, segment, values)

    monkeypatch.setattr(SegmentedRunner, "_part", watched)
    both(chain(model), {"x": x()})
    assert seen == [["x"], ["t"], ["v"]]


def test_one_session_is_open_at_a_time(model, monkeypatch):
    events = []
    opened = segments.open_skeleton

    def watched(*given, **named):
        runner = opened(*given, **named)
        events.append("open")
        close = runner.close
        monkeypatch.setattr(runner, "close", lambda: (events.append("close"), close()))
        return runner

    monkeypatch.setattr(segments, "open_skeleton", watched)
    both(chain(model), {"x": x()})
    assert events == ["open", "close"] * 3


def test_subgraphs_read_across_cuts(model):
    made = model(
        "g (float[N,64] x, bool k, float[64,64] a, float[64,64] b, float[64,64] c) => (float[N,64] y)"
        " { s = MatMul(x, a) t = MatMul(s, b)"
        " u = If(k) <then_branch = p () => (float[N,64] d) { e = MatMul(t, c) d = Add(e, s) },"
        " else_branch = q () => (float[N,64] f) { f = If(k) <then_branch = r () => (float[N,64] h) { h = Neg(x) },"
        " else_branch = o () => (float[N,64] i) { i = Add(s, x) }> }>"
        " y = Relu(u) }",
        a=weights(1), b=weights(2), c=weights(3),
    )  # fmt: skip
    for choice in (True, False):
        whole, parts, cuts = both(made, {"x": x(), "k": np.array(choice)})
        assert_same(whole, parts)
        assert set(cuts[2].needs) == {"k", "t", "s", "x"}
        assert cuts[2].weights == ("c",)


def test_a_loop_over_cuts(model):
    made = model(
        "g (float[N,64] x, int64 n, bool k, float[64,64] a, float[64,64] b) => (float[N,64] y, float[M,N,64] steps)"
        " { s = MatMul(x, a)"
        " y, steps = Loop(n, k, s) <body = body (int64 i, bool go, float[N,64] z) => (bool on, float[N,64] w, float[N,64] step)"
        " { on = Identity(go) v = MatMul(z, b) w = Tanh(v) step = Sub(w, s) }> }",
        a=weights(1), b=weights(2),
    )  # fmt: skip
    whole, parts, cuts = both(made, {"x": x(), "n": np.array(3), "k": np.array(True)})
    assert len(cuts) == 2
    assert_same(whole, parts)


def test_values_of_every_kind_cross_cuts(model):
    made = model(
        "g (float[N,64] x, string[2] names, float[64,64] a, float[64,64] b) => (float[M,64] y, string[2] z, bool has)"
        " { s = MatMul(x, a) list = SequenceConstruct(s, x) h = Cast<to=10>(s) words = StringConcat(names, names) shape = Shape(s)"
        " maybe = Optional(s) zero = ReduceSum<keepdims=0>(s)"
        " t = MatMul(s, b) joined = ConcatFromSequence<axis=0>(list)"
        " i = Cast<to=1>(h) j = ReduceSum<keepdims=0>(i) k = Add(t, j) l = Add(k, zero)"
        " m = Cast<to=1>(shape) n = ReduceSum<keepdims=0>(m) o = Add(l, n) y = Concat<axis=0>(o, joined)"
        " z = StringConcat(words, names) has = OptionalHasElement(maybe) }",
        a=weights(1), b=weights(2),
    )  # fmt: skip
    whole, parts, cuts = both(made, {"x": x(), "names": np.array(["p", "é"])})
    assert len(cuts) == 2
    assert {"list", "h", "words", "shape", "maybe", "zero"} <= set(cuts[0].makes)
    assert list(parts["z"]) == list(whole["z"])
    assert_same({"y": whole["y"], "has": whole["has"]}, {"y": parts["y"], "has": parts["has"]})


def test_fed_outputs_weights_as_outputs_and_inner_outputs_are_given(model):
    made = model(
        "g (float[N,64] x, float[64,64] a, float[64,64] b) => (float[N,64] s, float[N,64] x, float[64,64] b, float[N,64] y)"
        " { s = MatMul(x, a) y = MatMul(s, b) }",
        a=weights(1), b=weights(2),
    )  # fmt: skip
    made.graph.outputs[2] = made.graph.initializers["b"]
    whole, parts, _ = both(made, {"x": x()})
    assert_same(whole, parts)


def test_an_overridable_weight_can_be_fed_or_left_out(model):
    made = model("g (float[N,64] x, float[64,64] a, float[64,64] w) => (float[N,64] y) { s = MatMul(x, a) y = MatMul(s, w) }", a=weights(1))
    value = next(value for value in made.graph.inputs if value.name == "w")
    value.const_value = ir.tensor(weights(2), name="w")
    made.graph.register_initializer(value)
    for feeds in ({"x": x()}, {"x": x(), "w": weights(5)}):
        whole, parts, cuts = both(made, feeds)
        assert len(cuts) == 2
        assert_same(whole, parts)


def test_bfloat16_weights_and_values_cross_cuts(model):
    made = model(
        "g (bfloat16[N,64] x, bfloat16[64,64] a, bfloat16[64,64] b) => (bfloat16[64,64] y)"
        " { s = Cast<to=1>(a) u = Cast<to=1>(x) w = MatMul(u, s) t = Cast<to=16>(w) v = Cast<to=1>(b) m = Cast<to=1>(t) n = MatMul(m, v) y = Cast<to=16>(n) }",
        a=weights(1, dtype=ml_dtypes.bfloat16), b=weights(2, dtype=ml_dtypes.bfloat16),
    )  # fmt: skip
    whole, parts, cuts = both(made, {"x": x().astype(ml_dtypes.bfloat16)}, segment_bytes=LAYER // 2)
    assert len(cuts) == 2
    assert_same(whole, parts)


def test_functions_of_the_model_come_along(model):
    made = model(
        "g (float[N,64] x, float[64,64] a, float[64,64] b) => (float[N,64] y) { s = own.Twice(x) t = MatMul(s, a) u = own.Twice(t) y = MatMul(u, b) }"
        ' <domain: "own", opset_import: ["" : 21]> Twice (p) => (q) { q = Add(p, p) }',
        imports=("own",), a=weights(1), b=weights(2),
    )  # fmt: skip
    whole, parts, cuts = both(made, {"x": x()})
    assert len(cuts) == 2
    assert_same(whole, parts)


def test_wrong_feeds_are_refused_before_anything_runs(model):
    runner = open_model(chain(model), REFERENCE, whole_bytes=0, segment_bytes=LAYER)
    with pytest.raises(InputError, match="takes float32, but was given float64"):
        runner.run({"x": x().astype(np.float64)})
    with pytest.raises(InputError, match="is missing"):
        runner.stopwatch({})


def test_a_data_file_replaced_between_runs_is_not_read(model, tmp_path):
    class Watched(ir.ExternalTensor):
        unchanged = True

        def is_unchanged(self):
            return self.unchanged

    w = weights(1)
    (tmp_path / "w.bin").write_bytes(w.tobytes())
    tensor = Watched("w.bin", 0, w.nbytes, ir.DataType.FLOAT, shape=ir.Shape(w.shape), name="a", base_dir=tmp_path)
    made = model("g (float[N,64] x, float[64,64] a) => (float[N,64] y) { y = MatMul(x, a) }", a=tensor)
    runner = open_model(made, REFERENCE, whole_bytes=0)
    assert runner.run({"x": x()})["y"].shape == (2, 64)
    Watched.unchanged = False
    with pytest.raises(ModelError, match="of the weight 'a' was replaced meanwhile"):
        runner.run({"x": x()})


def test_ports_are_those_of_the_whole_model(model):
    made = chain(model)
    runner = open_model(made, REFERENCE, whole_bytes=0)
    whole = open_model(made, REFERENCE)
    assert (runner.inputs, runner.outputs) == (whole.inputs, whole.outputs)


def test_timed_runs_give_the_outputs_and_count_every_segment(model, monkeypatch):
    calls = []
    monkeypatch.setattr(segments.OrtRunner, "stopwatch", lambda self, feeds: lambda count: calls.append(count) or 0.5 * count)
    runner = open_model(chain(model), DEFAULT, whole_bytes=0, segment_bytes=LAYER)
    outputs, seconds = runner.run_timed({"x": x()}, 4)
    assert calls == [4, 4, 4]
    assert seconds == 6.0
    assert outputs["y"].shape == (2, 64)
    assert runner.stopwatch({"x": x()})(2) == 3.0


def test_optimised_segments_compute_the_same_within_rounding(model):
    made = chain(model)
    whole = open_model(made, REFERENCE).run({"x": x()})["y"]
    parts = open_model(made, DEFAULT, whole_bytes=0, segment_bytes=LAYER).run({"x": x()})["y"]
    np.testing.assert_allclose(parts, whole, rtol=1e-4, atol=1e-4 * np.abs(whole).max())


def test_a_graph_without_weights_is_one_segment(model):
    skeleton = skeleton_of(model("g (float[N] x) => (float[N] y) { s = Neg(x) y = Relu(s) }"))
    assert len(cut(skeleton.proto.graph, skeleton.sizes, 1)) == 1


@pytest.mark.slow
def test_a_model_of_three_gibibytes_stays_below_one_in_memory(tmp_path):
    program = textwrap.dedent(f"""
        import resource, numpy as np, onnx_ir as ir
        from graphwright.backends.ort.reference import open_reference
        size, layers = 4096, 48
        block = np.random.default_rng(0).standard_normal((size, size), dtype=np.float32) / 64
        with open({str(tmp_path / "w.bin")!r}, "wb") as data:
            for _ in range(layers):
                data.write(block)
        del block
        text = "".join(f" x{{i + 1}} = MatMul(x{{i}}, w{{i}})" for i in range(layers))
        ports = ", ".join(f"float[4096,4096] w{{i}}" for i in range(layers))
        model = ir.from_onnx_text(f'<ir_version: 10, opset_import: ["" : 21]> g (float[N,4096] x0, {{ports}}) => (float[N,4096] x{{layers}}) {{{{{{text}}}}}}')
        for i in range(layers):
            value = model.graph.inputs.pop(1)
            place = dict(shape=ir.Shape((size, size)), name=f"w{{i}}", base_dir={str(tmp_path)!r})
            value.const_value = ir.ExternalTensor("w.bin", i * size * size * 4, size * size * 4, ir.DataType.FLOAT, **place)
            model.graph.register_initializer(value)
        runner = open_reference(model)
        y = runner.run({{"x0": np.ones((1, size), np.float32)}})
        assert np.isfinite(y[f"x{{layers}}"]).all()
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024, len(runner.segments))
    """)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    peak, count = map(int, done.stdout.split())
    assert count == 16
    assert peak < 1024
