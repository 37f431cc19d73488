"""What every test may ask for."""

from __future__ import annotations

from pathlib import Path

import pytest

from graphwright.backends.ort.cuda.device import why_missing_here
from graphwright.models.shared import ABSENT, shared_folder


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with the real models and data kept beside the checkout; skips without it."""
    folder = shared_folder()
    if folder is None:
        pytest.skip(ABSENT)
    return folder


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what this machine cannot run, with a sentence."""
    if item.get_closest_marker("shared") and shared_folder() is None:
        pytest.skip(ABSENT)
    if item.get_closest_marker("gpu") and (missing := why_missing_here()):
        pytest.skip(missing)
