"""Feeds and results of generated code: names, types, shapes and memory, and what is said when they do not fit."""

import numpy as np
import pytest

pytest.importorskip("tvm")

from graphwright.backends.tvm.backend import TvmBackend  # noqa: E402
from graphwright.backends.tvm.session import ALIGNMENT, aligned, to_tensor  # noqa: E402
from graphwright.compiler.core.errors import InputError, TargetError  # noqa: E402


def built(model):
    return TvmBackend().build(model, (), lambda text: None).runner


@pytest.fixture(scope="module")
def relu(model):
    with built(model("g (float[N,3] x) => (float[N,3] y) { y = Relu(x) }")) as runner:
        yield runner


@pytest.mark.parametrize(
    ("feeds", "says"),
    [
        ({}, "the input 'x' is missing: the model takes 'x' tensor(float) [N, 3]"),
        ({"x": np.ones((2, 3), np.float32), "z": np.ones(1)}, "the model has no input 'z': it takes 'x'"),
        ({"x": np.ones((2, 3))}, "takes float32, but was given float64 [2, 3]"),
        ({"x": np.ones((2, 4), np.float32)}, "'x' tensor(float) [N, 3] was given the shape [2, 4]"),
        ({"x": None}, "takes an array, not nothing"),
    ],
)
def test_wrong_feeds_are_named(relu, feeds, says):
    with pytest.raises(InputError) as caught:
        relu.run(feeds)
    assert says in str(caught.value)


@pytest.mark.parametrize("cut", [np.s_[:, ::2], np.s_[::-1, ::-2], np.s_[:0, :3], np.s_[1:, 1:4]])
def test_feeds_may_lie_in_memory_as_they_like(relu, cut):
    numbers = np.arange(12, dtype=np.float32).reshape(2, 6)[cut] - 5
    np.testing.assert_array_equal(relu.run({"x": numbers})["y"], np.maximum(numbers, 0))


def test_feeds_that_cannot_be_written_to_pass(relu):
    numbers = np.ones((4, 3), np.float32)
    numbers.flags.writeable = False
    np.testing.assert_array_equal(relu.run({"x": numbers})["y"], numbers)


def test_aligned_feeds_are_not_copied():
    array = aligned(np.ones((4, 3), np.float32))
    assert array.ctypes.data % ALIGNMENT == 0
    assert np.from_dlpack(to_tensor(array)).ctypes.data == array.ctypes.data


def test_results_are_the_callers(relu):
    x = np.ones((2, 3), np.float32)
    first = relu.run({"x": x})["y"]
    kept = first.copy()
    relu.run({"x": x * 5})
    np.testing.assert_array_equal(first, kept)


def test_an_input_or_constant_that_is_an_output_is_a_copy(model):
    runner = built(
        model("g (float[2] x, float[2] w) => (float[2] y, float[2] z, float[2] s) { y = Identity(x) z = Identity(w) s = Add(x, w) }", w=np.ones(2, np.float32))
    )
    x = aligned(np.zeros(2, np.float32))
    for _ in range(2):
        made = runner.run({"x": x})
        np.testing.assert_array_equal(made["y"], [0, 0])
        np.testing.assert_array_equal(made["z"], [1, 1])
        made["y"][:] = made["z"][:] = 7
    np.testing.assert_array_equal(x, [0, 0])


def test_ports_say_dtype_and_shape(model):
    runner = built(model("g (float[N,3] x, int64 k) => (float[N,3] y, int64 j) { y = Relu(x) j = Add(k, k) }"))
    assert [(port.name, port.dtype, port.shape) for port in runner.inputs] == [("x", "tensor(float)", ("N", 3)), ("k", "tensor(int64)", ())]
    assert [(port.name, port.dtype, port.shape) for port in runner.outputs] == [("y", "tensor(float)", ("N", 3)), ("j", "tensor(int64)", ())]


def test_sizes_that_contradict_each_other_are_the_feeds_fault(model):
    runner = built(model("g (float[N] x, float[N] y) => (float[N] z) { z = Add(x, y) }"))
    with pytest.raises(InputError, match="cannot run on these inputs"):
        runner.run({"x": np.ones(3, np.float32), "y": np.ones(4, np.float32)})


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("g (string[2] x) => (string[2] y) { y = Identity(x) }", "does not compute in string"),
        ("g (seq(float[N]) x) => (seq(float[N]) y) { y = Identity(x) }", "tensors only"),
        ("g (float[2,2] x) => (float[2,2] y) { y = Froth(x) }", "does not take Froth"),
        ("g (float[2,2] x) => (float y) { y = Det(x) }", "does not take Det"),
    ],
)
def test_what_tvm_does_not_take_is_named(model, capfd, text, says):
    with pytest.raises(TargetError) as caught:
        built(model(text))
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_a_closed_runner_says_so(model):
    runner = built(model("g (float[2] x) => (float[2] y) { y = Relu(x) }"))
    runner.close()
    with pytest.raises(RuntimeError, match="was closed"):
        runner.run({"x": np.ones(2, np.float32)})
