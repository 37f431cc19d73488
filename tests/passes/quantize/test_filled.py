"""Convolutions of few channels get channels of zeros where that is measured to be faster."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest

from graphwright.compiler.core.graph import array
from graphwright.compiler.core.reasons import Skip, skip
from graphwright.compiler.core.wellformed import check
from graphwright.compiler.serialize import to_bytes
from graphwright.passes.quantize.formats import pair_excess
from graphwright.passes.quantize.static import QuantizeStatic

from .static_models import Feeds, images, kernel, kinds, model_of, quantised, run

STEP = QuantizeStatic(ranges="minmax", equalize=False)
CHANNELS_FIRST = "g (float[N,{channels},9,9] x) => (float[N,5,A,B] y) {{ a = Conv<pads=[1,1,1,1], strides=[2,2]>(x, k, b) r = Relu(a) y = Conv(r, l) }}"
CHANNELS_LAST = "g (float[N,9,9,{channels}] x) => (float[N,5,A,B] y) {{ t = Transpose<perm=[0,3,1,2]>(x) a = Conv(t, k, b) r = Relu(a) y = Conv(r, l) }}"


def weights(channels: int) -> dict[str, np.ndarray]:
    return {"k": kernel(16, channels, 3, 3), "b": kernel(16, seed=1), "l": kernel(5, 16, 1, 1, seed=2)}


class Filling:
    """A judge to whom filling pays (or not), and floats never do."""

    def __init__(self, pays: bool) -> None:
        self.pays = pays

    def refusal(self, rule: str, before: ir.Model, after: ir.Model, doubtful: bool) -> Skip | None:
        raise AssertionError("quantisation does not ask whether numbers stay the same")

    def slower(self, rule: str, before: ir.Model, after: ir.Model) -> Skip | None:
        filled = any(node.op_type == "Pad" for node in after.graph)
        return None if filled and self.pays else skip("it is slower")

    def ratio(self, before: ir.Model, after: ir.Model) -> None:
        return None


def filled(text: str, channels: int, feeds: list[Feeds], pays: bool = True) -> ir.Model:
    found, _, taken = quantised(model_of(text.format(channels=channels), weights(channels)), feeds, STEP, judge=Filling(pays))
    assert taken == 2
    check(found)
    return found


@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize(("text", "shape"), [(CHANNELS_FIRST, lambda c: (2, c, 9, 9)), (CHANNELS_LAST, lambda c: (2, 9, 9, c))])
def test_channels_of_zeros_change_no_bit(text: str, shape: Callable[[int], tuple[int, ...]], channels: int) -> None:
    feeds = images(6, *shape(channels))
    found, plain = filled(text, channels, feeds), filled(text, channels, feeds, pays=False)
    assert kinds(found).count("Pad") == 1
    assert "Pad" not in kinds(plain)
    assert {tuple(value.shape.numpy()) for value in found.graph.initializers.values() if value.shape is not None and len(value.shape) == 4} >= {(16, 4, 3, 3)}
    assert run(found, feeds[0]).tobytes() == run(plain, feeds[0]).tobytes()
    compiled = [ort.InferenceSession(to_bytes(model), providers=["CPUExecutionProvider"]).run(None, feeds[0])[0] for model in (found, plain)]
    assert compiled[0].tobytes() == compiled[1].tobytes()


@pytest.mark.parametrize(("text", "shape"), [(CHANNELS_FIRST, lambda c: (0, c, 9, 9)), (CHANNELS_LAST, lambda c: (0, 9, 9, c))])
def test_a_batch_of_none_is_still_one(text: str, shape: Callable[[int], tuple[int, ...]]) -> None:
    found = filled(text, 3, images(6, 2, *shape(3)[1:]))
    assert run(found, images(1, *shape(3))[0]).shape == (0, 5, *run(found, images(1, *(2, *shape(3)[1:]))[0]).shape[2:])


def test_four_channels_are_never_asked_about() -> None:
    assert "Pad" not in kinds(filled(CHANNELS_FIRST, 4, images(6, 2, 4, 9, 9)))


def test_sums_of_filled_channels_stay_in_sixteen_bits() -> None:
    feeds = images(6, 2, 3, 9, 9)
    model = model_of(CHANNELS_FIRST.format(channels=3), {**weights(3), "k": np.full((16, 3, 3, 3), 0.4, np.float32)})
    found, _, _ = quantised(model, feeds, QuantizeStatic(ranges="minmax", equalize=False, format="u8s7"), judge=Filling(True))
    codes = next(array(value) for value in found.graph.initializers.values() if value.shape is not None and value.shape == (16, 4, 3, 3))
    assert codes is not None
    assert pair_excess(codes.reshape(16, -1).T, taps=9).max() <= 1.0


def test_neighbours_of_filled_taps_are_pairs_too() -> None:
    lone = np.zeros((3, 2, 1), np.int64)
    lone[0, 1], lone[1, 1] = 100, 100
    assert pair_excess(lone.reshape(6, 1), taps=2)[0] > 1.0
