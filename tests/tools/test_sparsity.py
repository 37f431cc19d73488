"""--sparsity on the command line: what is said, and what is refused."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from graphwright.tools.main import main

from ..compiler.test_sparsity import wide

pytestmark = pytest.mark.usefixtures("quick")
Capture = pytest.CaptureFixture[str]


def saved(folder: Path) -> str:
    onnx.save(wide(), folder / "wide.onnx")
    return str(folder / "wide.onnx")


@pytest.mark.parametrize(("words", "said"), [("2:4", "2:4 sparse, size only (magnitude)"), ("0.6,shares=global", "sparse, size only")])
def test_compile_makes_weights_zero_and_says_that_only_the_size_changes(tmp_path: Path, capsys: Capture, words: str, said: str) -> None:
    before = saved(tmp_path)
    assert main(["compile", before, "-o", str(tmp_path / "out"), "--target", "onnx", "--sparsity", words]) == 0
    assert said.partition(" (")[0] in capsys.readouterr().out
    assert (tmp_path / "out" / "model.onnx").stat().st_size < 0.6 * Path(before).stat().st_size


@pytest.mark.parametrize(("words", "code"), [("4:2", 2), ("1.5", 2), ("half", 2), ("0.5,method=wanda", 2), ("0.5,method=lottery", 2)])
def test_what_cannot_be_done_exits_with_one_sentence(tmp_path: Path, capsys: Capture, words: str, code: int) -> None:
    assert main(["compile", saved(tmp_path), "-o", str(tmp_path / "out"), "--target", "onnx", "--sparsity", words]) == code
    assert capsys.readouterr().err.startswith("error: ")
    assert not (tmp_path / "out").exists()
