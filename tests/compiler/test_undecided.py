"""What a runtime makes of NaN where it picks the largest of several numbers is its own affair; everything else is not."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import onnx_ir as ir
import pytest

from graphwright.backends.ort.backend import OrtBackend
from graphwright.backends.ort.reference import open_reference
from graphwright.compiler.core.backend import Array
from graphwright.compiler.core.drift import ROUNDING
from graphwright.compiler.undecided import undecided
from graphwright.compiler.verify import Verifier

HEADER = '<ir_version: 8, opset_import: ["" : 17]>\n'
POOL = HEADER + "g (float[1,1,4,4] x) => (float[1,1,2,2] y, float[1,1,4,4] z) { y = MaxPool<kernel_shape=[2,2], strides=[2,2]>(x) z = Neg(x) }"
X = np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4)
SPOILT = np.where(X == 2, np.float32(np.nan), X)


class Answers:
    """Gives what a function makes of its input."""

    inputs = outputs = ()

    def __init__(self, function: Callable[[np.ndarray], dict[str, Array]]) -> None:
        self.function = function

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        return self.function(np.asarray(feeds["x"]))

    def close(self) -> None:
        """Nothing is held."""


def pooled(x: np.ndarray, largest: Callable[..., np.ndarray]) -> np.ndarray:
    return largest(x.reshape(1, 1, 2, 2, 2, 2), axis=(3, 5)).astype(np.float32)


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        (lambda x: {"y": pooled(x, np.max), "z": -x}, True),
        (lambda x: {"y": pooled(x, np.fmax.reduce), "z": -x}, True),
        (lambda x: {"y": pooled(x, np.max) + 1, "z": -x}, False),
        (lambda x: {"y": pooled(x, np.max), "z": -np.nan_to_num(x)}, False),
        (lambda x: {"y": np.full((1, 1, 2, 2), np.nan, np.float32), "z": -x}, False),
    ],
    ids=["kept", "passed over", "other numbers", "lost elsewhere", "too much"],
)
def test_nan_in_a_pool_may_be_kept_or_passed_over(answer, right):
    verifier = Verifier(ir.from_onnx_text(POOL), ({"x": X}, {"x": SPOILT}), OrtBackend())
    assert verifier.check_runner(Answers(answer), ROUNDING).broken is not right


def test_an_old_model_is_asked_too():
    model = ir.from_onnx_text('<ir_version: 4, opset_import: ["" : 7]> g (float[3,4] x) => (float[3,1] y) { y = ReduceMax<axes=[1]>(x) }')
    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    x[1, 2] = np.nan
    assert undecided(model, {"x": x}, open_reference)["y"].tolist() == [[False], [True], [False]]


@pytest.mark.parametrize("body", ["r = ReduceMax<axes=[1], keepdims=0>(x)", "r = ReduceMin<axes=[1], keepdims=0>(x)"])
def test_what_follows_from_it_is_undecided_too(body):
    model = ir.from_onnx_text(HEADER + f"g (float[3,4] x) => (float[3] y, float[3] r) {{ {body} y = Exp(r) }}")
    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    x[1, 2] = np.nan
    found = undecided(model, {"x": x}, open_reference)
    assert {name: places.tolist() for name, places in found.items()} == {"y": [False, True, False], "r": [False, True, False]}


def test_a_model_that_picks_nothing_leaves_nothing_open():
    model = ir.from_onnx_text(HEADER + "g (float[3] x) => (float[3] y) { y = Relu(x) }")
    assert undecided(model, {"x": np.array([1, np.nan, 2], np.float32)}, open_reference) == {}
