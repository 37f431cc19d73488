"""When a runtime's own integer kernels make more noise than the compressed model means to."""

from __future__ import annotations

import numpy as np

from graphwright.compiler.racing import noisier

MEANT = list(np.random.default_rng(3).exponential(1.0, 32))


def test_one_sample_near_to_a_decision_is_no_proof_that_kernels_are_noisier() -> None:
    found = [MEANT[0] * 10_000, *reversed(MEANT[1:])]
    assert sum(found) > 2 * sum(MEANT)
    assert not noisier(MEANT, found)


def test_more_noise_on_nearly_every_sample_is() -> None:
    assert noisier(MEANT, [4 * noise for noise in MEANT])
    assert noisier([0.0] * 8, [1e-3] * 8)


def test_samples_that_change_not_at_all_speak_for_nothing() -> None:
    assert not noisier([0.0] * 8, [0.0] * 8)


def test_with_a_handful_of_samples_nothing_excuses_more_noise() -> None:
    assert noisier(MEANT[:4], list(reversed(MEANT[:4])))
