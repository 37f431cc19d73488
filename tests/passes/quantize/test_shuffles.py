"""Channel shuffles written as stacking."""

from __future__ import annotations

import numpy as np
import pytest

from graphwright.compiler.core.graph import clone_model
from graphwright.compiler.core.shapes import settle_shapes
from graphwright.compiler.core.wellformed import check
from graphwright.passes.quantize.shuffles import stack_shuffles

from .static_models import images, kinds, model_of, run

SHUFFLE = (
    "g (float[N,4,2,3] x) => (float[N,12,2,3] y) <int64[5] l = {{-1,3,4,2,3}}, int64[4] m = {{-1,12,2,3}}> {{ a = Relu(x) b = Neg(x)"
    " c = Concat<axis=1>(x, a, b) s = Reshape(c, l) t = Transpose<perm=[{perm}]>(s) {more} y = Reshape(t, m) }}"
)


def stacked(**changes: str) -> tuple[int, list[str], bool]:
    text = SHUFFLE.format(**{"perm": "0,2,1,3,4", "more": "", **changes})
    model = model_of(text)
    settle_shapes(model)
    found = clone_model(model)
    settle_shapes(found)
    count = stack_shuffles(found)
    check(found)
    feeds = images(1, 2, 4, 2, 3)[0]
    return count, kinds(found), np.array_equal(run(found, feeds), run(model, feeds))


def test_a_shuffle_of_joined_channels_stacks_them_with_the_same_bits() -> None:
    count, left, same = stacked()
    assert count == 1
    assert same
    assert "Transpose" not in left
    assert left.count("Reshape") == 1


@pytest.mark.parametrize("changes", [{"perm": "0,1,2,4,3"}, {"more": "z = Relu(s)"}])
def test_another_transpose_or_one_whose_input_others_read_stays(changes: dict[str, str]) -> None:
    count, left, same = stacked(**changes)
    assert count == 0
    assert same
    assert "Transpose" in left


def test_parts_that_are_cut_elsewhere_than_they_were_joined_stay() -> None:
    text = "{ c = Concat<axis=1>(x, x, x) s = Reshape(c, l) y = Transpose<perm=[0,2,1,3]>(s) z = Relu(y) }"
    model = model_of(f"g (float[1,4,2] x) => (float[1,3,4,2] z) <int64[4] l = {{1,4,3,2}}> {text}")
    settle_shapes(model)
    assert stack_shuffles(model) == 0
