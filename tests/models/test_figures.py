"""The arithmetic behind the figures, and the data made from nothing."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special, stats

from graphwright.models import magika, speech, spelling
from graphwright.models.detection import overlap
from graphwright.models.ranks import log_likelihood, psnr, spearman
from graphwright.models.shared import spread


def test_spearman_is_the_known_one_ties_included() -> None:
    random = np.random.default_rng(0)
    first, second = random.integers(0, 9, 200), random.standard_normal(200)
    assert spearman(first, second + first) == pytest.approx(stats.spearmanr(first, second + first).statistic)


def test_psnr_of_a_known_error() -> None:
    truth = np.zeros((4, 4))
    assert psnr(truth + 0.1, truth, 1.0) == pytest.approx(20)
    assert psnr(truth, truth, 1.0) == float("inf")


def test_log_likelihood_is_that_of_softmax() -> None:
    logits = np.random.default_rng(1).standard_normal((3, 5, 7)).astype(np.float32) * 30
    targets = np.random.default_rng(2).integers(0, 7, (3, 5))
    expected = np.take_along_axis(special.log_softmax(logits.astype(np.float64), axis=-1), targets[..., None], -1)[..., 0]
    np.testing.assert_allclose(log_likelihood(logits, targets), expected)


def test_spread_takes_evenly() -> None:
    assert spread(10, 3) == [0, 3, 6]
    assert spread(3, 5) == spread(3, None) == [0, 1, 2]


def test_overlap_of_boxes() -> None:
    unit = np.array([0.0, 0, 1, 1])
    assert overlap(unit, unit) == 1
    assert overlap(unit, unit + 0.5) == pytest.approx(0.25 / 1.75)
    assert overlap(unit, unit + 2) == 0


def test_speech_is_the_same_for_the_same_seed_and_knows_its_pauses() -> None:
    sound, spoken = speech.utterance(3)
    again, _ = speech.utterance(3)
    np.testing.assert_array_equal(sound, again)
    assert 0.2 < spoken.mean() < 0.9
    assert np.abs(sound[~spoken]).max() == 0 < np.abs(sound[spoken]).mean()


def test_noise_comes_at_the_ratio_asked_for() -> None:
    clean, _ = speech.utterance(0)
    assert speech.signal_to_noise(speech.noisy(clean, 1, 5.0), clean) == pytest.approx(5, abs=0.1)


def test_coefficients_tell_a_high_tone_from_a_low_one() -> None:
    seconds = np.arange(speech.RATE) / speech.RATE
    low, high = (speech.mfcc(np.sin(2 * np.pi * hertz * seconds).astype(np.float32)) for hertz in (200, 3000))
    assert low.shape == (49, 10)
    assert low[:, 1].mean() > 0 > high[:, 1].mean()


def test_a_short_file_is_padded_on_both_sides() -> None:
    tokens = magika.tokens(b"  ab  ")
    assert tokens.dtype == np.int32 and tokens.shape == (2048,)
    assert tokens[:5].tolist() == [97, 98, 32, 32, 256]
    assert tokens[-5:].tolist() == [256, 32, 32, 97, 98]


def test_files_of_many_kinds_are_made() -> None:
    kinds = {kind for kind, _ in magika.files("report")}
    assert {"python", "zip", "json", "sqlite", "npy"} <= kinds


def test_every_pronunciation_uses_known_sounds() -> None:
    words = spelling.pronunciations("calibration") + spelling.pronunciations("report")
    assert len(words) == len({word for word, _ in words}) == 60
    assert all(sound in spelling.PHONEMES for _, sounds in words for sound in sounds)
