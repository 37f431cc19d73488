"""Random models stay right under every rule; the long run is ``python tests/fuzz/main.py``."""

from __future__ import annotations

import onnx
import pytest

from graphwright.tests.fuzz.found import FOUND, HEADER
from graphwright.tests.fuzz.generator import random_model
from graphwright.tests.fuzz.main import trials
from graphwright.tests.fuzz.trial import attempt, text_of

BLOCKS, SIZE = 4, 15


@pytest.mark.parametrize("block", range(BLOCKS))
@pytest.mark.filterwarnings("ignore")
def test_random_models_stay_right(block: int) -> None:
    ran = 0
    for seed, trial in trials(range(block * SIZE, (block + 1) * SIZE)):
        assert trial.fault is None, f"seed {seed}: {trial.fault}\n{text_of(random_model(seed))}"
        ran += trial.ran
    assert ran > SIZE // 2, "too few of the models run at all"


@pytest.mark.parametrize("name", FOUND)
@pytest.mark.filterwarnings("ignore")
def test_a_model_that_once_failed_stays_right(name: str) -> None:
    trial = attempt(onnx.parser.parse_model(HEADER + FOUND[name]))
    assert trial.ran
    assert trial.fault is None
