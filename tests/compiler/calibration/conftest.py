"""Models and folders for the tests of calibration."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Statistics are kept in a folder of the test's own."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("GRAPHWRIGHT_CACHE", str(folder))
    return folder
