"""A cache of each test's own, and races whose outcome a test decides."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from graphwright.backends.ort import backend as ort_backend
from graphwright.backends.ort.options import DEFAULT
from graphwright.compiler import kernel_choice, search
from graphwright.compiler.timing import Comparison

from .driving import Decide


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GRAPHWRIGHT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def decide(monkeypatch: pytest.MonkeyPatch) -> Iterator[Decide]:
    """``decide(0.5, 1.0)``: the ratios that races come out with, in turn; the last one repeats. One choice of options is said to have won, and every kernel."""
    won = SimpleNamespace(to_dict=lambda: {"changed": {"threads": 1}, "chosen": True, "failure": ""})
    monkeypatch.setattr(ort_backend, "choose_options", lambda *args, **kwargs: (DEFAULT, (won,)))
    ratios: list[float] = [0.5]

    def compare(a: object, b: object, samples: object, **limits: object) -> Comparison:
        ratio = ratios.pop(0) if len(ratios) > 1 else ratios[0]
        return Comparison(ratio, 1.0, ratio, ratio - 0.05, ratio + 0.05, 20)

    monkeypatch.setattr(search, "compare_runners", compare)
    monkeypatch.setattr(kernel_choice, "compare_runners", lambda *_, **__: Comparison(0.5, 1.0, 0.5, 0.45, 0.55, 20))

    def say(*wanted: float) -> None:
        ratios[:] = wanted

    yield say
