"""--prune and its kin on the command line: what is said, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest

from graphwright.tools.main import main

from ..compiler.compressing import mlp

pytestmark = pytest.mark.usefixtures("quick")
Capture = pytest.CaptureFixture[str]


def saved(folder: Path, layers: int) -> str:
    onnx.save(mlp(layers=layers), folder / "mlp.onnx")
    return str(folder / "mlp.onnx")


def test_compile_prunes_and_tells_what_is_left(tmp_path: Path, capsys: Capture) -> None:
    assert main(["compile", saved(tmp_path, 4), "-o", str(tmp_path / "out"), "--prune", "0.3", "--prune-of", "parameters", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["reduction"]["parameters_after"] < 0.74 * report["reduction"]["parameters_before"]
    assert "prune-structured{of=parameters}" in report["recipe"]


def test_the_table_tells_parameters_and_arithmetic(tmp_path: Path, capsys: Capture) -> None:
    assert main(["compile", saved(tmp_path, 4), "-o", str(tmp_path / "out"), "--prune", "0.3"]) == 0
    assert "FLOPs (-30." in capsys.readouterr().out


@pytest.mark.parametrize(("layers", "words", "code"), [(1, ["--prune", "0.3"], 1), (4, ["--prune", "3"], 2), (4, ["--prune-of", "flops"], 2)])
def test_what_cannot_be_done_exits_with_one_sentence(tmp_path: Path, capsys: Capture, layers: int, words: list[str], code: int) -> None:
    assert main(["compile", saved(tmp_path, layers), "-o", str(tmp_path / "out"), *words]) == code
    assert capsys.readouterr().err.startswith("error: ")
    assert not (tmp_path / "out").exists()


def test_whether_the_cache_would_serve_depends_on_what_is_pruned(tmp_path: Path, capsys: Capture) -> None:
    path = saved(tmp_path, 4)
    main(["compile", path, "-o", str(tmp_path / "out"), "--prune", "0.3"])
    capsys.readouterr()
    assert main(["cache", "explain", path, "--prune", "0.3"]) == 0
    assert "hit" in capsys.readouterr().out
    assert main(["cache", "explain", path, "--prune", "0.4"]) == 0
    assert "miss: recipe" in capsys.readouterr().out
