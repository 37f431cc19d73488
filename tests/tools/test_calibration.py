"""What --calibration and --preprocess take, and what they say when it does not fit."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from graphwright.tools.main import main

Capture = pytest.CaptureFixture[str]


def report(capsys: Capture, *words: object) -> dict:
    """The report of a compilation."""
    assert main(["compile", *map(str, words), "--json"]) == 0, capsys.readouterr().err
    return json.loads(capsys.readouterr().out)


@pytest.mark.usefixtures("quick")
def test_a_stacked_file_is_many_samples_of_which_a_few_are_verified_with(model: Path, tmp_path: Path, capsys: Capture) -> None:
    np.savez(tmp_path / "many.npz", x=np.random.default_rng(0).standard_normal((50, 4), dtype=np.float32))
    found = report(capsys, model, "--calibration", tmp_path / "many.npz", "--precision", "int8", "--size")
    assert found["compression"]["calibration"] == "calibrated on 50 samples (many.npz)"
    assert report(capsys, model, "--calibration", tmp_path / "many.npz")["verification"]["given"] == 8


@pytest.mark.usefixtures("quick")
def test_other_calibration_data_is_another_compilation(model: Path, tmp_path: Path, capsys: Capture) -> None:
    for seed in range(2):
        np.savez(tmp_path / "data.npz", x=np.random.default_rng(seed).standard_normal((20, 4), dtype=np.float32))
        assert report(capsys, model, "--calibration", tmp_path / "data.npz")["cache"]["hit"] is False
    assert report(capsys, model, "--calibration", tmp_path / "data.npz")["cache"]["hit"] is True


@pytest.mark.usefixtures("quick")
def test_made_up_samples_are_said_to_be_made_up(model: Path, capsys: Capture) -> None:
    found = report(capsys, model, "--calibration", "random:6", "--precision", "int8", "--size")
    assert "calibrated on 6 samples (random), all made up" in found["compression"]["calibration"]


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (("--calibration", "nowhere.npz"), 2, "there is no calibration file or folder 'nowhere.npz'"),
        (("--calibration", "random:few"), 2, "random:64"),
        (("--calibration", "{folder}"), 1, "holds no .npz files and no images"),
        (("--calibration", "{wrong}"), 1, "none of the 1 calibration samples (wrong.npz) can be used: wrong.npz: the model has no input 'z'"),
        (("--calibration", "{wrong}", "--preprocess", "sizes=3"), 2, "the preprocessing has no 'sizes'"),
    ],
)
def test_data_that_does_not_fit_is_one_sentence(words: tuple[str, ...], code: int, sentence: str, model: Path, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "empty").mkdir()
    np.savez(tmp_path / "wrong.npz", z=np.zeros(3, np.float32))
    filled = [word.format(folder=tmp_path / "empty", wrong=tmp_path / "wrong.npz") for word in words]
    assert main(["compile", str(model), *filled]) == code
    said = capsys.readouterr().err
    assert sentence in said and said.count("\n") == 1
