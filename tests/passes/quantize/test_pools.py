"""What is looked up code by code is looked up after the MaxPool that follows it."""

from __future__ import annotations

import numpy as np
import pytest

from graphwright.compiler.core.graph import clone_model
from graphwright.compiler.core.shapes import settle_shapes
from graphwright.compiler.core.wellformed import check
from graphwright.passes.quantize.pools import pool_first
from graphwright.passes.quantize.spots import slope_of
from graphwright.passes.quantize.static import QuantizeStatic

from .static_models import images, kernel, kinds, model_of, quantised, run

TEXT = "g (float[N,4,8,8] x) => ({more}float[N,4,A,B] y) {{ a = Neg(x) l = {activation}(a) y = MaxPool<kernel_shape=[2,2], strides=[2,2], pads=[{pads}]>(l) }}"


def pooled(activation: str = "LeakyRelu<alpha=0.1>", more: str = "", pads: str = "0,0,0,0") -> tuple[int, list[str], bool]:
    model = model_of(TEXT.format(activation=activation, more=more, pads=pads))
    found = clone_model(model)
    settle_shapes(found)
    count = pool_first(found, [node for node in found.graph if node.op_type != "Neg"])
    check(found)
    feeds = images(1, 2, 4, 8, 8)[0]
    return count, kinds(found), more != "" or np.array_equal(run(found, feeds), run(model, feeds))


@pytest.mark.parametrize("pads", ["0,0,0,0", "1,1,1,1"])
@pytest.mark.parametrize("activation", ["LeakyRelu<alpha=0.1>", "LeakyRelu<alpha=0.0>", "LeakyRelu<alpha=3.0>", "Sigmoid"])
def test_what_grows_is_looked_up_after_the_pool_with_the_same_bits(activation: str, pads: str) -> None:
    assert pooled(activation, pads=pads) == (1, ["Neg", "MaxPool", activation.partition("<")[0]], True)


@pytest.mark.parametrize(("activation", "more"), [("LeakyRelu<alpha=-0.1>", ""), ("LeakyRelu<alpha=0.1>", "float[N,4,8,8] l, "), ("Abs", "")])
def test_what_falls_or_is_read_elsewhere_stays(activation: str, more: str) -> None:
    count, left, same = pooled(activation, more)
    assert (count, same) == (0, True)
    assert left[-1] == "MaxPool"


def test_a_quantised_network_pools_codes_before_it_looks_them_up() -> None:
    pool = "MaxPool<kernel_shape=[2,2], strides=[2,2]>(l)"
    text = f"g (float[N,3,8,8] x) => (float[N,4,4,4] y) {{ a = Conv(x, k) l = LeakyRelu<alpha=0.1>(a) p = {pool} y = Conv(p, m) }}"
    model = model_of(text, {"k": kernel(6, 3, 1, 1), "m": kernel(4, 6, 1, 1, seed=1)})
    feeds = images(6, 2, 3, 8, 8)
    found, _, taken = quantised(model, feeds, QuantizeStatic(ranges="minmax"))
    check(found)
    assert taken == 2
    order = [kind for kind in kinds(found) if kind in ("MaxPool", "LeakyRelu")]
    assert order == ["MaxPool", "LeakyRelu"]
    exact = run(model, feeds[0])
    assert np.abs(run(found, feeds[0]) - exact).max() < 0.05 * np.abs(exact).max()


def test_what_is_small_behind_a_pool_still_counts_little() -> None:
    model = model_of("g (float[N,4,8,8] x) => (float[N,4,4,4] y) { p = MaxPool<kernel_shape=[2,2], strides=[2,2]>(x) y = LeakyRelu<alpha=0.1>(p) }")
    assert slope_of(model.graph.inputs[0]) == pytest.approx(0.1)
