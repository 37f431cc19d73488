"""The digits network learns, and exports."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from graphwright.models import digits
from graphwright.models.session import Plain, only


def test_training_and_held_out_digits_are_different_ones() -> None:
    assert len(digits.digits("calibration")[1]) + len(digits.digits("report")[1]) == 1797


def test_the_trained_network_knows_digits_it_never_saw(tmp_path: Path) -> None:
    runner = Plain(digits.export(tmp_path))
    assert digits.accuracy(runner) > 0.97
    assert digits.accuracy(runner, 50) > 0.9
    (feed,) = digits.feeds(1, "report")
    expected = digits.trained()(torch.from_numpy(feed["input"])).numpy()
    np.testing.assert_allclose(only(runner.run(feed)), expected, rtol=1e-4, atol=1e-4)


def test_training_leaves_the_callers_random_numbers_alone() -> None:
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    digits.trained()
    assert torch.equal(torch.rand(1), expected)
