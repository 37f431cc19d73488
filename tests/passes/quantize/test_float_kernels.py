"""Convolutions that stay in float because they run faster so."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest

from graphwright.compiler.core.reasons import Skip, skip
from graphwright.compiler.serialize import to_bytes
from graphwright.passes.quantize.static import QuantizeStatic

from .static_models import images, kernel, kinds, model_of, quantised

TEXT = "g (float[1,3,16,16] x) => (float[1,4,1,1] y) { a = Conv<pads=[1,1,1,1]>(x, k1, b1) r = Relu(a) c = Conv(r, k2) y = Conv(c, k3) }"
WEIGHTS = {"k1": kernel(1, 3, 1, 1), "b1": kernel(1), "k2": kernel(64, 1, 9, 9), "k3": kernel(4, 64, 10, 10)}


@dataclass
class Fixed:
    """A judge with one answer, which keeps what it was shown."""

    answer: Skip | None
    shown: list[tuple[ir.Model, ir.Model]] = field(default_factory=list)

    def refusal(self, rule: str, before: ir.Model, after: ir.Model, doubtful: bool) -> Skip | None:
        raise AssertionError("quantisation does not ask whether numbers stay the same")

    def slower(self, rule: str, before: ir.Model, after: ir.Model) -> Skip | None:
        self.shown.append((before, after))
        return self.answer


def test_a_small_first_convolution_stays_where_its_float_kernel_is_faster() -> None:
    judge = Fixed(None)
    found, context, taken = quantised(model_of(TEXT, WEIGHTS), images(4, 1, 3, 16, 16), judge=judge)
    assert taken == 2
    assert context.coverage.records["a"].why == "the model is faster here with its float kernel, and it has 3 of 30,787 weights"
    assert "Relu" in kinds(found)


def test_it_is_quantised_where_it_is_not_and_large_ones_are_never_asked_about() -> None:
    judge = Fixed(skip("it is slower"))
    _, _, taken = quantised(model_of(TEXT, WEIGHTS), images(4, 1, 3, 16, 16), judge=judge)
    assert taken == 3
    (piece, filled), (every, floats) = judge.shown
    assert [sum(node.op_type == "Conv" for node in model.graph) for model in (piece, filled, every, floats)] == [1, 1, 3, 3]
    assert [sum(node.op_type == "QuantizeLinear" for node in model.graph) for model in (every, floats)] == [4, 3]


def test_nobody_is_asked_where_the_size_is_what_counts() -> None:
    judge = Fixed(None)
    step = QuantizeStatic(ranges="minmax", equalize=False, small=True)
    _, _, taken = quantised(model_of(TEXT, WEIGHTS), images(4, 1, 3, 16, 16), step, judge=judge)
    assert taken == 3
    assert not judge.shown


@pytest.mark.parametrize("text", [TEXT, TEXT.replace("1,3,16,16] x", "1,16,16,3] w").replace("a = ", "x = Transpose<perm=[0,3,1,2]>(w) a = ")])
def test_what_is_timed_runs_on_the_same_input_and_gives_the_same_form(text: str) -> None:
    judge = Fixed(skip("it is slower"))
    shape, name = ((1, 3, 16, 16), "x") if text == TEXT else ((1, 16, 16, 3), "w")
    quantised(model_of(text, WEIGHTS), images(4, *shape, name=name), judge=judge)
    for pieces, given in zip(judge.shown, ("x", name), strict=True):
        feeds = images(1, *shape, name=given)[0]
        found = [ort.InferenceSession(to_bytes(piece), providers=["CPUExecutionProvider"]).run(None, feeds)[0] for piece in pieces]
        assert found[0].shape == found[1].shape
        assert found[0].dtype == found[1].dtype
        assert np.abs(found[0].astype(float) - found[1].astype(float)).max() <= (2 if found[0].dtype == np.uint8 else 0.1)


@pytest.mark.parametrize("text", ["g (float[N,3] x) => (float[N,4] y) { y = MatMul(x, w) }"])
def test_only_convolutions_are_asked_about(text: str) -> None:
    judge = Fixed(None)
    _, _, taken = quantised(model_of(text, {"w": kernel(3, 4)}), images(3, 2, 3), judge=judge)
    assert taken == 1
    assert not judge.shown
