"""``compile --explain-plan`` and ``inspect --plan`` show which operators become one kernel."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from graphwright.tools.main import main

Capture = pytest.CaptureFixture[str]


@pytest.mark.usefixtures("quick")
def test_compile_explains_the_plan(model: Path, inputs: Path, capsys: Capture) -> None:
    assert main(["compile", str(model), "--inputs", str(inputs), "--target", "onnx", "--explain-plan"]) == 0
    printed = capsys.readouterr().out
    assert "MatMul, Gelu" in printed and "2 operators become 1 kernels" in printed and "faster than the input" in printed


@pytest.mark.usefixtures("quick")
def test_the_plan_is_part_of_the_json(model: Path, inputs: Path, capsys: Capture) -> None:
    assert main(["compile", str(model), "--inputs", str(inputs), "--target", "onnx", "--explain-plan", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["shipped"] == "optimized" and [block["operators"] for block in found["plan"]["blocks"]] == [["MatMul", "Gelu"]]


def test_inspect_draws_the_plan(model: Path, tmp_path: Path, capsys: Capture) -> None:
    picture = tmp_path / "plan.svg"
    assert main(["inspect", str(model), "--plan", str(picture)]) == 0
    assert f"drawn in {picture}" in capsys.readouterr().out
    assert "Erf" in "".join(ElementTree.fromstring(picture.read_text()).itertext())


def test_inspect_tells_the_plan_as_json(model: Path, tmp_path: Path, capsys: Capture) -> None:
    assert main(["inspect", str(model), "--plan", str(tmp_path / "plan.svg"), "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)["plan"]
    assert plan["operators"] == 7 and sum(len(block["operators"]) for block in plan["blocks"]) == 7


def test_deep_without_a_picture_is_a_mistake(model: Path, capsys: Capture) -> None:
    assert main(["inspect", str(model), "--deep"]) == 2
    assert "--plan FILE.svg" in capsys.readouterr().err


def test_a_picture_that_cannot_be_written_is_one_sentence(model: Path, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "file").touch()
    assert main(["inspect", str(model), "--plan", str(tmp_path / "file" / "plan.svg")]) == 1
    assert "cannot write" in capsys.readouterr().err
