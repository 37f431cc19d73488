"""Half precision on processors that only store it: computed in single precision, given and taken as it was."""

import numpy as np
import onnx_ir as ir
import pytest

pytest.importorskip("tvm")

from graphwright.backends.ort.reference import open_reference  # noqa: E402
from graphwright.backends.tvm.build import build_model  # noqa: E402
from graphwright.backends.tvm.machine import this_machine  # noqa: E402
from graphwright.backends.tvm.options import Options  # noqa: E402
from graphwright.backends.tvm.prepare import prepare  # noqa: E402
from graphwright.backends.tvm.widening import widen  # noqa: E402

NETWORK = """g (float16[2,3,8,8] x, float16[4,3,3,3] w, float16[4,5] f) => (float16[2,5] y, float16[2,4,6,6] r, int64[2] k) {
  c = Conv(x, w) r = Relu(c) g = GlobalAveragePool(r) t = Flatten(g) m = MatMul(t, f) y = Softmax(m) k = ArgMax<axis=1, keepdims=0>(y)
}"""


def halves(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float16)


@pytest.fixture(scope="module")
def network(model):
    return model(NETWORK, w=halves(4, 3, 3, 3), f=halves(4, 5))


def same(model, feeds, atol):
    with build_model(model, Options(), this_machine(), lambda text: None) as runner, open_reference(model) as reference:
        found, expected = runner.run(feeds), reference.run(feeds)
    for name, array in expected.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_allclose(found[name].astype(np.float64), array.astype(np.float64), rtol=4e-3, atol=atol, err_msg=name)


def test_only_what_comes_in_and_goes_out_is_half(network):
    prepared = prepare(network)
    assert widen(prepared)
    kinds = {node.op_type: {value.dtype for value in node.outputs} for node in prepared.graph if node.op_type != "Cast"}
    assert kinds.pop("ArgMax") == {ir.DataType.INT64}
    assert set().union(*kinds.values()) == {ir.DataType.FLOAT}
    assert [value.dtype.name for value in prepared.graph.outputs] == ["FLOAT16", "FLOAT16", "INT64"]
    assert [value.dtype.name for value in prepared.graph.inputs] == ["FLOAT16"]


def test_the_numbers_stay(network):
    same(network, {"x": halves(2, 3, 8, 8, seed=1)}, 2e-3)


def test_a_cast_that_the_model_asks_for_rounds(model):
    rounded = model("g (float[4] x) => (float[4] y, float16[4] z) { h = Cast<to=10>(x) z = Add(h, h) y = Cast<to=1>(h) }")
    same(rounded, {"x": np.array([1.0001, 70000.0, -1e9, 3.14159], np.float32)}, 0.0)


def test_inputs_and_constants_that_are_outputs_stay_half(model):
    text = "g (float16[3] x, float16[3] w) => (float16[3] y, float16[3] z, float16[3] v) { y = Mul(x, w) z = Identity(x) v = Identity(w) }"
    passing = model(text, w=halves(3))
    same(passing, {"x": halves(3, seed=2)}, 0.0)


def test_models_without_half_are_left_alone(model):
    single = prepare(model("g (float[3] x) => (float[3] y) { y = Relu(x) }"))
    assert not widen(single)
