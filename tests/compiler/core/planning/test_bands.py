"""Blocks are joined band by band where a band of one needs a band of the other, and hardly more."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir
import pytest

from graphwright.compiler.core.planning.plan import Constraints
from graphwright.compiler.core.planning.planner import plan
from graphwright.compiler.core.shapes import infer_shapes

BANDS = Constraints(repeated=0, bands=True)
DEPTHWISE = "Conv<kernel_shape=[3,3], pads=[1,1,1,1], group=32>(x, d)"


class Fixed:
    """A profile in which every kernel of several products takes ``joined`` seconds, and every other one a second."""

    def __init__(self, joined: float) -> None:
        self._joined = joined

    def cost(self, nodes: Sequence[ir.Node]) -> float | None:
        return self._joined if sum(node.op_type in ("Conv", "MaxPool") for node in nodes) > 1 else 1.0


def titles(body: str, outputs: str = "float[1,M,H,W] y", constraints: Constraints = BANDS, profile: Fixed | None = None, size: int = 56) -> list[str]:
    """The blocks of a graph over an image of 32 channels."""
    inputs = f"float[1,32,{size},{size}] x, float[32,1,3,3] d, float[16,32,1,1] p, float[32,32,3,3] k"
    model = ir.from_onnx_text(f'<ir_version: 10, opset_import: ["" : 21]>\ng ({inputs}) => ({outputs}) {{ {body} }}')
    for value in list(model.graph.inputs[1:]):
        model.graph.inputs.remove(value)
        value.const_value = ir.tensor(np.ones(value.shape.numpy(), np.float32), name=value.name)
        model.graph.register_initializer(value)
    for value in model.graph.outputs:
        value.shape = None  # It is found out.
    infer_shapes(model)
    return [block.title for block in plan(model, constraints, profile).blocks]


def test_a_depthwise_convolution_is_one_kernel_with_the_pointwise_one_behind_it() -> None:
    assert titles(f"a = {DEPTHWISE} r = Relu(a) y = Conv(r, p)") == ["Conv+Relu+Conv"]


def test_without_bands_they_stay_apart() -> None:
    assert titles(f"a = {DEPTHWISE} r = Relu(a) y = Conv(r, p)", constraints=Constraints(repeated=0)) == ["Conv+Relu", "Conv"]


def test_a_pool_whose_windows_lie_apart_joins_the_convolution() -> None:
    assert titles("a = Conv<kernel_shape=[3,3]>(x, k) r = Relu(a) y = MaxPool<kernel_shape=[2,2], strides=[2,2]>(r)") == ["Conv+Relu+MaxPool"]


def test_a_pool_whose_windows_overlap_would_do_too_much_twice() -> None:
    assert len(titles("a = Conv<kernel_shape=[3,3]>(x, k) y = MaxPool<kernel_shape=[3,3]>(a)")) == 2


def test_a_window_over_a_convolution_that_is_as_much_work_is_left() -> None:
    assert len(titles("a = Conv<kernel_shape=[3,3], pads=[1,1,1,1]>(x, k) r = Relu(a) y = Conv<kernel_shape=[3,3]>(r, k)")) == 2


def test_a_window_over_a_little_work_is_joined() -> None:
    assert titles("a = MaxPool<kernel_shape=[2,2], strides=[2,2]>(x) y = Conv<kernel_shape=[3,3], pads=[1,1,1,1]>(a, k)") == ["MaxPool+Conv"]


def test_convolutions_that_are_added_share_bands() -> None:
    body = f"a = Conv<kernel_shape=[3,3], pads=[1,1,1,1]>(x, k) b = {DEPTHWISE} y = Add(a, b)"
    assert titles(body) == ["Conv+Conv+Add"]


def test_what_is_read_elsewhere_too_stays_a_result() -> None:
    assert len(titles(f"a = {DEPTHWISE} y = Conv(a, p) z = Sigmoid(a)", outputs="float[1,M,H,W] y, float[1,N,H,W] z")) == 2
    assert len(titles(f"a = {DEPTHWISE} y = Conv(a, p)", outputs="float[1,M,H,W] y, float[1,N,H,W] a")) == 2


def test_statistics_of_a_whole_image_have_no_bands() -> None:
    body = "s = Constant<value_floats=[1.0]>() a = Sigmoid(x) m = GlobalAveragePool(a) b = Sub(a, m) y = Conv(b, p)"
    assert not [title for title in titles(body) if "GlobalAveragePool" in title and "Conv" in title]


@pytest.mark.parametrize(("joined", "blocks"), [(1.5, 1), (2.5, 2)])
def test_a_measurement_decides_where_there_is_one(joined: float, blocks: int) -> None:
    assert len(titles(f"a = {DEPTHWISE} r = Relu(a) y = Conv(r, p)", profile=Fixed(joined))) == blocks


def test_little_work_is_done_by_one_thread_in_one_kernel() -> None:
    model = ir.from_onnx_text(
        '<ir_version: 10, opset_import: ["" : 21]>\ng (float[1,64] x, float[64,32] v, float[32,8] w) => (float[1,8] y) { a = MatMul(x, v) y = MatMul(a, w) }'
    )
    infer_shapes(model)
    assert [block.title for block in plan(model, BANDS).blocks] == ["MatMul+MatMul"]


CLASSIFIER = "c = GlobalAveragePool(a) f = Flatten(c) y = MatMul(f, w)"


def test_a_small_classifier_belongs_to_the_only_convolution_before_it() -> None:
    body = f"a = Conv<kernel_shape=[3,3]>(x, k) {weight(32)} {CLASSIFIER}"
    assert titles(body, "float[M,H] y", size=16)[-2:] == ["Constant", "Conv+GlobalAveragePool+Flatten+MatMul"]


def test_it_stays_apart_from_bands_of_several() -> None:
    body = f"b = {DEPTHWISE} r = Relu(b) a = Conv(r, p) {weight(16)} {CLASSIFIER}"
    assert titles(body, "float[M,H] y", size=16)[::2] == ["Conv+Relu+Conv", "GlobalAveragePool+Flatten+MatMul"]


def weight(width: int) -> str:
    return f"w = Constant<value = float[{width},2] {{{', '.join(['1'] * 2 * width)}}}>()"
