"""Patterns hold exactly, and keep what is greatest."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from graphwright.compiler.core.errors import UsageError
from graphwright.compiler.core.sites import all_sites, unfold_weight
from graphwright.passes.prune.unstructured.pattern import Pattern, kept, parse_pattern, rows_in_runs, within

from ..pruned_models import model_of


@pytest.mark.parametrize("scope", ["column", "weight"])
@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (1, 7), (7, 1), (37, 5), (9, 64)])
@pytest.mark.parametrize("ratio", [0.1, 0.5, 0.77])
def test_as_many_go_as_were_asked_for(rows: int, columns: int, ratio: float, scope: str) -> None:
    stays = kept(np.random.default_rng(0).random((rows, columns)), Pattern(ratio), scope)  # type: ignore[arg-type]
    assert abs((~stays).sum() - ratio * stays.size) <= 0.5


def test_columns_are_compared_within_themselves_and_lose_the_same_but_for_one() -> None:
    metric = np.random.default_rng(0).uniform(1, 2, (9, 20)) * np.logspace(0, 20, 20)
    counts = (~kept(metric, Pattern(0.5), "column")).sum(axis=0)
    assert set(counts.tolist()) <= {4, 5}
    assert set((~kept(metric, Pattern(0.5), "weight")).sum(axis=0).tolist()) == {0, 9}


def test_what_stays_in_a_column_is_greater_than_what_goes() -> None:
    metric = np.random.default_rng(0).random((31, 6))
    stays = kept(metric, Pattern(0.6))
    assert (np.where(stays, metric, 1).min(axis=0) > np.where(stays, 0, metric).max(axis=0)).all()


@pytest.mark.parametrize(("keep", "of"), [(2, 4), (4, 8), (1, 4), (3, 4)])
@pytest.mark.parametrize("rows", [1, 3, 4, 5, 16, 37])
def test_each_group_keeps_its_greatest_and_a_shorter_last_one_as_many(keep: int, of: int, rows: int) -> None:
    metric = np.random.default_rng(rows).random((rows, 5))
    stays = kept(metric, Pattern(1 - keep / of, keep, of))
    for start in range(0, rows, of):
        part, left = metric[start : start + of], stays[start : start + of]
        expected = part >= np.sort(part, axis=0)[-min(keep, len(part))]
        assert np.array_equal(left, expected)


def test_groups_start_anew_with_each_run() -> None:
    assert Pattern(0.5, 2, 4, run=5).groups(10).tolist() == [[0, 1, 2, 3], [4, 10, 10, 10], [5, 6, 7, 8], [9, 10, 10, 10]]


def test_a_mask_that_keeps_three_of_four_is_not_within_2_of_4() -> None:
    stays = np.array([True, True, False, False, True, True, True, False])[:, None]
    assert not within(stays, Pattern(0.5, 2, 4))
    assert within(stays[:4], Pattern(0.5, 2, 4))


@pytest.mark.parametrize("text", ["0", "1", "1.5", "-0.5", "nan", "4:2", "4:4", "0:4", "half", "2:4:8", ""])
def test_what_is_no_part_of_the_weights_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="no part of the weights"):
        parse_pattern(text)


def test_a_share_and_n_of_m_are_read() -> None:
    assert parse_pattern("0.25") == Pattern(0.25)
    assert parse_pattern("1:4") == Pattern(0.75, 1, 4)


FORMS = """m (float[N, 24] x, float[24, 20] A, float[20, 24] B, float[N, 6, 5, 5] z, float[8, 6, 3, 3] C, float[12, 3, 2, 2] D, float[8, 24] L, float[24, 3] y)
    => (float[N, 20] a, float[N, 20] b, float[N, 8, 3, 3] c, float[N, 12, 4, 4] d, float[8, 3] l) {
    a = MatMul(x, A)
    b = Gemm<transB=1>(x, B)
    c = Conv(z, C)
    d = Conv<group=2>(z, D)
    l = MatMul(L, y) }"""


def test_groups_lie_along_the_inputs_of_products_and_the_channels_of_convolutions() -> None:
    along = {"a": 0, "b": 1, "c": 1, "d": 1, "l": 1}
    model = model_of(FORMS)
    for site in all_sites(model):
        counted = np.broadcast_to(np.arange(site.shape[along[site.name]]).reshape([-1 if axis == along[site.name] else 1 for axis in range(len(site.shape))]),
                                  site.shape)  # fmt: skip
        order, pattern = rows_in_runs(site, Pattern(0.5, 2, 4))
        rows = unfold_weight(np.ascontiguousarray(counted), site)[0][order]
        for group in pattern.groups(len(rows)):
            inside = rows[[row for row in group if row < len(rows)]]
            assert (np.diff(inside, axis=0) == 1).all(), site.name
            assert (inside[0] % 4 == 0).all(), site.name
    assert isinstance(model, ir.Model)
