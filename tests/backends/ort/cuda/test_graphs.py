"""A CUDA graph repeats a run: it is only right where nothing but numbers depends on the data."""

import numpy as np
import pytest

from graphwright.backends.ort.cuda.graphs import why_not_captured


@pytest.mark.parametrize(
    "text",
    [
        "g (float[N,4] x) => (float[N,4] y) { a = Relu(x) y = Add(a, x) }",
        "g (float[N,4] x) => (float[M] y) <int64[1] minus = {-1}> { s = Shape(x) p = ReduceProd<keepdims=1>(s) y = Reshape(x, p) }",
        "g (float[2,8] x) => (float[2,4] y) <int64[1] a = {1}, int64[1] b = {0}, int64[1] c = {4}> { y = Slice(x, b, c, a) }",
        "g (float[N,8] x) => (float[N,2] v, int64[N,2] i) <int64[1] k = {2}> { v, i = TopK(x, k) }",
    ],
)
def test_what_only_shapes_decide_can_be_captured(model, text):
    assert why_not_captured(model(text)) == ""


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("g (float[N] x) => (int64[1,M] y) { y = NonZero(x) }", "size depends on the data"),
        ("g (float[N] x, int64[R] s) => (float[M,K] y) { y = Reshape(x, s) }", "told by 's'"),
        ("g (float[N,8] x, int64[1] k) => (float[N,M] v, int64[N,M] i) { k2 = Add(k, k) v, i = TopK(x, k2) }", "told by 'k2'"),
        ("g (int64 n) => (int64[M] y) <int64 z = {0}, int64 one = {1}> { y = Range(z, n, one) }", "told by 'n'"),
        ("g (float[N] x) => (float[N] y) { r = RandomNormalLike(x) y = Add(x, r) }", "random numbers"),
        (
            "g (bool c, float[N] x) => (float[N] y) { y = If(c) <then_branch = t () => (float[N] a) { a = Relu(x) },"
            " else_branch = e () => (float[N] b) { b = Neg(x) }> }",
            "branches",
        ),
    ],
)
def test_what_the_data_decides_is_not_captured(model, text, reason):
    found = why_not_captured(model(text))
    assert reason in found and "\n" not in found


def test_an_initialiser_that_a_caller_may_override_is_not_settled(model):
    made = model("g (float[N] x, int64[2] s) => (float[M,K] y) { y = Reshape(x, s) }", s=np.array([1, -1]))
    assert why_not_captured(made) == ""
    made.graph.inputs.append(made.graph.initializers["s"])
    assert "told by 's'" in why_not_captured(made)
