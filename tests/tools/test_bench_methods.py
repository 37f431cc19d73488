"""``graphwright bench`` times models as before, and ``bench methods`` shows methods of quantisation side by side."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from graphwright.tools.main import main

Capture = pytest.CaptureFixture[str]
MODEL = """
<ir_version: 10, opset_import: ["" : 21]>
site (float[batch, 16] x) => (float[batch, 8] y)
{ y = MatMul(x, w) }
"""


@pytest.fixture
def wide(tmp_path: Path) -> Path:
    """One matrix."""
    proto = onnx.parser.parse_model(MODEL)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.random.default_rng(0).standard_normal((16, 8)).astype(np.float32), "w"))
    path = tmp_path / "site.onnx"
    onnx.save(proto, path)
    return path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """64 rows, with channels that go together."""
    random = np.random.default_rng(1)
    path = tmp_path / "data.npz"
    np.savez(path, x=(random.standard_normal((64, 16)) @ random.standard_normal((16, 16))).astype(np.float32))
    return path


def test_methods_are_shown_with_what_they_beat(wide: Path, data: Path, capsys: Capture) -> None:
    words = ["bench", "methods", str(wide), "--calibration", str(data), "--bits", "4,3", "--method", "rtn", "--method", "gptq"]
    assert main(words) == 0, capsys.readouterr().err
    printed = capsys.readouterr().out
    assert "gptq    W3" in printed and "yes (1 of 1 sites)" in printed
    assert main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [(line["method"], line["width"], line["beats"]) for line in found["methods"]] == [
        ("gptq", "W4", True), ("rtn", "W4", None), ("gptq", "W3", True), ("rtn", "W3", None),
    ]  # fmt: skip
    assert found["verdicts"] == [{"method": "gptq", "refines": "rtn", "beats": ["W4", "W3"], "loses": []}]
    assert {trial["site"] for trial in found["trials"]} == {"y"}


def test_inputs_are_rounded_when_asked_for(wide: Path, data: Path, capsys: Capture) -> None:
    words = ["bench", "methods", str(wide), "--calibration", str(data), "--bits", "8", "--inputs-bits", "8", "--method", "rtn", "--json"]
    assert main(words) == 0, capsys.readouterr().err
    assert [line["width"] for line in json.loads(capsys.readouterr().out)["methods"]] == ["W8", "W8A8"]


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (("--bits", "4,x"), 2, "'x' is no number of bits"),
        (("--method", "magic"), 2, "no quantisation method 'magic'"),
        (("--calibration", "nowhere.npz"), 2, "nowhere.npz"),
    ],
)
def test_a_wrong_call_is_one_sentence(wide: Path, data: Path, capsys: Capture, words: tuple[str, ...], code: int, sentence: str) -> None:
    given = [] if "--calibration" in words else ["--calibration", str(data)]
    assert main(["bench", "methods", str(wide), *given, *words]) == code
    said = capsys.readouterr().err
    assert sentence in said and said.count("\n") == 1


def test_models_are_timed_with_and_without_the_word(wide: Path, capsys: Capture) -> None:
    for words in (["bench", "models", str(wide)], ["bench", str(wide)], ["bench", "--seconds", "0.1", str(wide)]):
        assert main([*words, "--seconds", "0.1", "--json"]) == 0, capsys.readouterr().err
        assert [record["model"] for record in json.loads(capsys.readouterr().out)] == [str(wide)]
