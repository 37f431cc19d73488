"""Small models, a private cache, and races that cost no time."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

GELU = """
<ir_version: 10, opset_import: ["" : 21]>
gelu (float[batch, 4] x) => (float[batch, 4] y)
<float root = {1.4142135}, float one = {1.0}, float half = {0.5}, float[4, 4] w = {1,2,3,4, 0,1,0,2, 3,0,1,0, 1,1,1,2}>
{ m = MatMul(x, w) s = Identity(m) d = Div(s, root) e = Erf(d) p = Add(e, one) q = Mul(s, p) y = Mul(q, half) }
"""
QUICK = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # What runs in the background of a shell is born deaf to it.
from graphwright.tools.main import main
from graphwright.backends.ort import backend
from graphwright.backends.ort.options import DEFAULT
from graphwright.compiler import search
from graphwright.compiler.timing import Comparison
backend.choose_options = lambda *args, **kwargs: (DEFAULT, ())
search.compare_runners = lambda *args, **kwargs: Comparison(0.5, 1.0, 0.5, 0.45, 0.55, 20)
"""


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GRAPHWRIGHT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model that level 2 makes smaller."""
    path = tmp_path / "gelu.onnx"
    onnx.save(onnx.parser.parse_model(GELU), path)
    return path


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    """An input of that model."""
    path = tmp_path / "inputs.npz"
    np.savez(path, x=np.linspace(-2, 2, 12, dtype=np.float32).reshape(3, 4))
    return path


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every race is won by 2x, and options are not tried."""
    from graphwright.backends.ort import backend
    from graphwright.backends.ort.options import DEFAULT
    from graphwright.compiler import search
    from graphwright.compiler.timing import Comparison

    monkeypatch.setattr(backend, "choose_options", lambda *args, **kwargs: (DEFAULT, ()))
    monkeypatch.setattr(search, "compare_runners", lambda *args, **kwargs: Comparison(0.5, 1.0, 0.5, 0.45, 0.55, 20))


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    """``start("compile", "m.onnx", before="...")``: the command in a process of its own; ``before`` is Python run first."""

    def run(*words: str, before: str = "", **options: object) -> subprocess.Popen[str]:
        program = f"{QUICK}\n{before}\nsys.exit(main({list(words)!r}))"
        settings: dict[str, object] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": tmp_path, **options}
        return subprocess.Popen([sys.executable, "-c", program], **settings)  # type: ignore[call-overload, no-any-return]

    return run
