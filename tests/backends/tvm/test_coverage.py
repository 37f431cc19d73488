"""Operators that TVM lacks, or reads as something else, give what ONNX Runtime gives, or are refused by name."""

import numpy as np
import pytest

pytest.importorskip("tvm")

from graphwright.backends.ort.reference import open_reference  # noqa: E402
from graphwright.backends.tvm.backend import TvmBackend  # noqa: E402
from graphwright.compiler.core.errors import InputError, TargetError  # noqa: E402

X = "float[2,3,4] x"


def inputs_of(model) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    sizes = {"N": 2, "T": 5}
    feeds = {}
    for value in model.graph.inputs:
        shape = [dim if isinstance(dim, int) else sizes[dim.value] for dim in value.shape]
        dtype = value.dtype.numpy()
        feeds[value.name] = random.normal(size=shape).astype(dtype) if dtype.kind == "f" else random.integers(0, 3, shape).astype(dtype)
    return feeds


def agree(model) -> None:
    feeds = inputs_of(model)
    runner = TvmBackend().build(model, (), lambda text: None).runner
    expected, found = open_reference(model).run(feeds), runner.run(feeds)
    for name, value in expected.items():
        assert found[name].dtype == value.dtype
        np.testing.assert_allclose(found[name], value, rtol=3e-5, atol=3e-6)


@pytest.mark.parametrize(
    "text",
    [
        f"g ({X}, float[4] s, float[4] b) => (float[2,3,4] y) {{ y = LayerNormalization(x, s, b) }}",
        f"g ({X}, float[4] s) => (float[2,3,4] y) {{ y = RMSNormalization(x, s) }}",
        f"g ({X}, float[3] s, float[3] b) => (float[2,3,4] y) {{ y = InstanceNormalization(x, s, b) }}",
        f'g ({X}) => (float[2,3,4] y, float[2,3,4] z) {{ y = Gelu(x) z = Gelu<approximate="tanh">(x) }}',
        f"g ({X}) => (float[2,3,4] y, float[2,3,4] z) {{ y = Mish(x) z = Celu<alpha=0.5>(x) }}",
        f"g ({X}) => (float[2,3,4] y) {{ y = LpNormalization<axis=1, p=1>(x) }}",
        "g (float[2,2,5,4] q, float[2,2,5,4] k, float[2,2,5,4] v) => (float[2,2,5,4] y) { y = Attention<is_causal=1>(q, k, v) }",
        "g (float[2,5,8] q, float[2,5,4] k, float[2,5,4] v) => (float[2,5,8] y) { y = Attention<q_num_heads=4, kv_num_heads=2>(q, k, v) }",
    ],
)
def test_what_tvm_lacks_is_written_out(model, text):
    agree(model(text, opset=23))


@pytest.mark.slow
@pytest.mark.parametrize(
    "text",
    [
        "g (float[3,2,4] x, float[1,20,4] w, float[1,20,5] r, float[1,40] b) => (float[3,1,2,5] y, float[1,2,5] h, float[1,2,5] c) "
        "{ y, h, c = LSTM<hidden_size=5>(x, w, r, b) }",
        '"g (float[3,2,4] x, float[2,15,4] w, float[2,15,5] r, float[2,30] b) => (float[3,2,2,5] y, float[2,2,5] h) '
        '{ y, h = GRU<hidden_size=5, direction=\\"bidirectional\\", linear_before_reset=1>(x, w, r, b) }"',
        '"g (float[3,2,4] x, float[1,5,4] w, float[1,5,5] r) => (float[3,1,2,5] y) { y = RNN<hidden_size=5, direction=\\"reverse\\">(x, w, r) }"',
    ],
)
def test_recurrent_networks_are_unrolled(model, text):
    agree(model(text.strip('"').replace('\\"', '"')))


@pytest.mark.parametrize(
    "text",
    [
        "g (float[N,T,6] x) => (float[A,B,C] y) <int64[1] i = {0}, int64[1] k = {1}, int64[2] m = {2, 3}> "
        "{ s = Shape(x) n = Slice(s, i, k) t = Shape<start=1, end=2>(x) c = Concat<axis=0>(n, t, m) y0 = Reshape(x, c) y = Neg(y0) }",
        "g (float[N,T] x) => (float[N,T] y) <int64 z = {0}, int64 o = {1}, int64[1] a = {0}> "
        "{ s = Shape(x) n = Gather(s, o) r = Range(z, n, o) f = Cast<to=1>(r) y = Add(x, f) }",
        "g (float[N,T] x) => (float[N,B] y) <int64[1] i = {1}, int64[1] e = {9223372036854775807}, int64[1] a = {1}> { y = Slice(x, i, e, a) }",
        "g (float[5,4] x, int64[N,T] i) => (float[N,T,4] y) { y = Gather(x, i) }",
    ],
)
def test_shapes_that_are_computed_follow_the_inputs(model, text):
    agree(model(text))


@pytest.mark.parametrize(
    "attributes",
    ['auto_pad="VALID", output_shape=[12,12]', "output_shape=[10,9]", 'output_shape=[9,9], auto_pad="SAME_UPPER"', "output_padding=[1,1], pads=[1,1,1,1]"],
)
def test_the_size_of_a_transposed_convolution_may_be_said_in_any_way(model, attributes):
    agree(model(f"g (float[1,3,5,5] x, float[3,4,3,3] w, float[4] b) => (float[1,4,H,W] y) {{ y = ConvTranspose<{attributes}, strides=[2,2]>(x, w, b) }}"))


@pytest.mark.parametrize("call", ['Resize<axes=[2,3], mode="linear">(x,,,s)', 'Resize<mode="nearest", nearest_mode="floor">(x,,t)'])
def test_images_are_resized_whatever_the_batch(model, call):
    agree(model(f"g (float[N,3,4,4] x) => (float[N,3,8,8] y) <int64[2] s = {{8, 8}}, float[4] t = {{1, 1, 2, 2}}> {{ y = {call} }}"))


@pytest.mark.parametrize("split", ["SplitToSequence<axis=1>(x, l)", "SplitToSequence<axis=1>(x, two)", "SplitToSequence<axis=1, keepdims=0>(x)"])
def test_parts_of_a_sequence_of_known_lengths_are_slices(model, split):
    constants = "<int64[3] l = {2, 1, 2}, int64 two = {2}, int64 first = {0}, int64 last = {-1}>"
    agree(model(f"g (float[N,5] x) => (float y, float z) {constants} {{ s = {split} y = SequenceAt(s, first) b = SequenceAt(s, last) z = Neg(b) }}"))


def test_a_table_that_is_cut_to_the_length_serves_all_lengths_that_it_has(model):
    made = model("g (float[N,4] x, float[8,4] t) => (float[N,4] y) <int64[1] i = {0}> { s = Shape<end=1>(x) c = Slice(t, i, s) y = Add(x, c) }")
    with TvmBackend().build(made, (), lambda text: None).runner as runner:
        table = np.arange(32, dtype=np.float32).reshape(8, 4)
        for length in (1, 5, 8):
            x = np.ones((length, 4), np.float32)
            np.testing.assert_array_equal(runner.run({"x": x, "t": table})["y"], x + table[:length])
        with pytest.raises(InputError):
            runner.run({"x": np.ones((9, 4), np.float32), "t": table})


def test_an_index_out_of_range_reads_no_memory_of_others(model):
    runner = TvmBackend().build(model("g (float[5,4] x, int64[N] i) => (float[N,4] y) { y = Gather(x, i) }"), (), lambda text: None).runner
    x = np.arange(20, dtype=np.float32).reshape(5, 4)
    found = runner.run({"x": x, "i": np.array([4, -1, 10**9, -(10**9)])})["y"]
    np.testing.assert_array_equal(found, x[[4, 4, 4, 0]])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('g (float[1,1,4,4] x) => (float[1,1,2,2] y) <float[4] s = {1, 1, 0.6, 0.6}, float[0] r = {}> { y = Resize<mode="linear">(x, r, s) }', "Resize"),
        ("g (float[1,6,4] b, float[1,1,6] s) => (int64[K,3] y) { y = NonMaxSuppression(b, s) }", "NonMaxSuppression"),
        ("g (float[2] x) => (float[2] y) { y = Bernoulli(x) }", "Bernoulli"),
    ],
)
def test_what_tvm_would_get_wrong_is_refused(model, text, says):
    with pytest.raises(TargetError, match=says):
        TvmBackend().build(model(text), (), lambda text: None)


def test_refusals_are_told_without_building(model):
    backend = TvmBackend()
    taken = model("g (float[2] x) => (float[2] y) { y = Relu(x) }")
    refused = model("g (string[2] x) => (string[2] y) { y = Identity(x) }")
    unknown = model("g (float[2] x) => (float[2] y) { y = Froth(x) }")
    assert backend.refusal(taken.graph[0]) is None
    assert "string" in str(backend.refusal(refused.graph[0]))
    assert backend.refusal(unknown.graph[0]) == "tvm does not take Froth"


def test_instances_far_from_zero_are_normalised_to_the_last_digits_over_a_whole_image(model):
    """A sum in single precision of a quarter of a million numbers near 100 is off by more than what is left of them deviates."""
    subject = model("g (float[1,2,512,512] x, float[2] s, float[2] b) => (float[1,2,512,512] y) { y = InstanceNormalization(x, s, b) }", opset=23)
    random = np.random.default_rng(0)
    feeds = {"x": 100 + random.normal(size=(1, 2, 512, 512)).astype(np.float32), "s": np.ones(2, np.float32), "b": np.zeros(2, np.float32)}
    wide = feeds["x"].astype(np.float64)
    expected = (wide - wide.mean((2, 3), keepdims=True)) / np.sqrt(wide.var((2, 3), keepdims=True) + 1e-5)
    found = TvmBackend().build(subject, (), lambda text: None).runner.run(feeds)["y"]
    np.testing.assert_allclose(found, expected, atol=2e-5)
