"""Divergence tells without labels how far two models' answers lie apart."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from graphwright.compiler.core.backend import Array
from graphwright.compiler.divergence import Divergence, Ruler


class Answers:
    """A runner that gives one array for each sample, under a name."""

    inputs = ()
    outputs = ()

    def __init__(self, name: str, *arrays: np.ndarray) -> None:
        self.name, self.arrays = name, arrays

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        number = feeds["n"]
        assert isinstance(number, np.ndarray)
        return {self.name: self.arrays[int(number)]}

    def close(self) -> None:
        """Nothing is held."""


def measured(name: str, before: list[np.ndarray], after: list[np.ndarray]) -> Divergence:
    samples = [{"n": np.array(number)} for number in range(len(before))]
    return Ruler(Answers(name, *before), samples).measure(Answers(name, *after))


def test_equal_answers_do_not_diverge() -> None:
    rows = np.random.default_rng(0).standard_normal((4, 10)).astype(np.float32)
    (found,) = measured("logits", [rows], [rows]).outputs
    assert (found.cosine, found.relative_error, found.agreement, found.snr_db) == (pytest.approx(1.0), 0.0, 1.0, 200.0)
    assert found.kl == pytest.approx(0.0, abs=1e-12)


def test_every_number_is_what_its_formula_says() -> None:
    before, after = np.array([[3.0, 4.0], [1.0, 0.0]], np.float32), np.array([[3.0, 4.5], [0.0, 0.5]], np.float32)
    found = measured("logits", [before], [after])
    (entry,) = found.outputs
    assert entry.relative_error == pytest.approx(np.sqrt((0.25 + 1 + 0.25) / 26), rel=1e-6)
    assert entry.snr_db == pytest.approx(10 * np.log10(26 / 1.5), rel=1e-6)
    assert entry.cosine == pytest.approx((9 + 18) / np.sqrt(26 * (9 + 4.5**2 + 0.25)), rel=1e-6)
    assert entry.agreement == 0.5 and found.likeness == ("agreement", 0.5)
    p, q = (np.exp(rows) / np.exp(rows).sum(axis=1, keepdims=True) for rows in (before, after))
    assert entry.kl == pytest.approx(np.mean(np.sum(p * np.log(p / q), axis=1)), rel=1e-6)
    assert found.noise == pytest.approx(entry.relative_error**2)


def test_the_mean_and_the_worst_sample_are_told_apart() -> None:
    one = np.ones((1, 3, 4), np.float32)
    other = one * np.array([1, 1, 1, -1], np.float32)
    (entry,) = measured("hidden", [one, one], [one, other]).outputs
    assert entry.cosine == pytest.approx(0.75) and entry.worst_cosine == pytest.approx(0.5)


def test_hidden_states_and_embeddings_are_compared_by_cosine_only() -> None:
    rng = np.random.default_rng(1)
    hidden = rng.standard_normal((2, 5, 8)).astype(np.float32)
    embedding = hidden[:, 0] / np.linalg.norm(hidden[:, 0], axis=-1, keepdims=True)
    for name, array in (("hidden", hidden), ("sentence", embedding)):
        found = measured(name, [array], [array + np.float32(0.01)])
        assert found.outputs[0].kl is None and found.outputs[0].agreement is None and found.likeness[0] == "cosine"


def test_a_single_matrix_and_probabilities_are_scores_whatever_they_are_called() -> None:
    rng = np.random.default_rng(2)
    matrix = rng.standard_normal((3, 7)).astype(np.float32)
    probabilities = np.exp(matrix) / np.exp(matrix).sum(axis=1, keepdims=True)
    for array in (matrix, np.stack([probabilities, probabilities])):
        assert measured("y", [array], [array]).outputs[0].agreement == 1.0


def test_whole_numbers_agree_where_they_are_equal() -> None:
    found = measured("ids", [np.array([1, 2, 3, 4])], [np.array([1, 2, 3, 5])])
    assert found.outputs[0].agreement == 0.75 and found.likeness == ("agreement", 0.75)


def test_zeros_and_overflows_have_a_divergence_too() -> None:
    zero, one = np.zeros((2, 2, 2), np.float32), np.ones((2, 2, 2), np.float32)
    assert measured("h", [zero], [zero]).noise == 0.0 and measured("h", [zero], [zero]).outputs[0].cosine == 1.0
    assert measured("h", [zero], [one]).outputs[0].cosine == 0.0 and measured("h", [zero], [one]).noise == 1.0
    overflown = np.array([[[np.inf, 1.0], [np.nan, 2.0]]], np.float32)
    assert measured("h", [overflown], [overflown]).noise == 0.0


def test_only_as_many_samples_are_run_as_asked_for() -> None:
    rows = [np.ones((1, 2, 2), np.float32) * number for number in (1, 2, 3)]
    ruler = Ruler(Answers("h", *rows), [{"n": np.array(number)} for number in range(3)])
    assert ruler.measure(Answers("h", *rows), 2).samples == 2


def test_the_noise_of_each_sample_is_that_of_it_alone() -> None:
    rows = [np.array([[3.0, 4.0]], np.float32), np.array([[0.0, 2.0]], np.float32)]
    samples = [{"n": np.array(number)} for number in range(2)]
    ruler = Ruler(Answers("h", *rows), samples)
    assert ruler.noises(Answers("h", rows[0] * np.float32(1.1), rows[1])) == pytest.approx([0.01, 0.0], rel=1e-5)
