"""Precisions from the command line: what is written, what is said, and what is refused."""

from __future__ import annotations

import json
import math
from pathlib import Path

import jsonschema
import numpy as np
import onnx
import pytest

from graphwright.compiler import kernel_choice
from graphwright.compiler.pipeline import PRECISIONS
from graphwright.compiler.report import schema
from graphwright.compiler.timing import Comparison
from graphwright.tools import arguments
from graphwright.tools.main import main

pytestmark = pytest.mark.usefixtures("quick", "fast")
Capture = pytest.CaptureFixture[str]
WIDTH = 64


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every kernel is twice as fast as what it replaces."""
    monkeypatch.setattr(kernel_choice, "compare_runners", lambda *_, **__: Comparison(0.5, 1.0, 0.5, 0.45, 0.55, 20))


@pytest.fixture
def dense(tmp_path: Path) -> Path:
    """A model of three products, with four files of eight inputs beside it."""
    rng = np.random.default_rng(0)
    weights = [onnx.numpy_helper.from_array((rng.standard_normal((WIDTH, WIDTH)) / 8).astype(np.float32), f"w{place}") for place in range(3)]
    nodes = [onnx.helper.make_node("MatMul", [f"t{place}" if place else "x", f"w{place}"], [f"h{place + 1}"]) for place in range(3)]
    nodes += [onnx.helper.make_node("Tanh", [f"h{place}"], [f"t{place}"]) for place in range(1, 4)]
    nodes = [nodes[place] for place in (0, 3, 1, 4, 2, 5)]
    ports = [onnx.helper.make_tensor_value_info(name, 1, ["batch", WIDTH]) for name in ("x", "t3")]
    graph = onnx.helper.make_graph(nodes, "dense", ports[:1], ports[1:], weights)
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 21)], ir_version=10), tmp_path / "dense.onnx")
    for place in range(4):
        np.savez(tmp_path / f"{place}.npz", x=rng.standard_normal((8, WIDTH)).astype(np.float32))
    return tmp_path / "dense.onnx"


def data(model: Path) -> list[str]:
    return [word for place in range(4) for word in ("--calibration", str(model.with_name(f"{place}.npz")))]


def test_the_precisions_offered_are_those_there_are() -> None:
    assert arguments.PRECISIONS == PRECISIONS


@pytest.mark.parametrize(
    ("precision", "size"), [("int8", 0.35), ("int8-dynamic", 0.35), ("int4", 0.2), ("nf4", 0.2), ("fp8", 0.35), ("fp16", 0.51), ("bf16", 0.51)]
)
def test_compile_to_a_precision_reports_by_the_schema(dense: Path, tmp_path: Path, capsys: Capture, precision: str, size: float) -> None:
    words = ["compile", str(dense), "-o", str(tmp_path / "out"), "--precision", precision, "--json", *(data(dense) if precision == "int8" else [])]
    assert main(words) == 0, capsys.readouterr().err
    report = json.loads(capsys.readouterr().out)
    jsonschema.validate(report, json.loads(schema()))
    assert report["precision"] == precision and report["shipped"] == "optimized"
    assert report["compression"]["compressed"] == 3 and report["compression"]["size"] < size
    assert math.isfinite(report["divergence"][0]["snr_db"]) and report["divergence"][0]["cosine"] > 0.95
    assert ("calibrated on 32 samples" in report["compression"]["calibration"]) == (precision == "int8")
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["precision"] == precision


@pytest.mark.parametrize("level", [0, 1, 3])
def test_every_level_compresses(dense: Path, capsys: Capture, level: int) -> None:
    assert main(["compile", str(dense), "--precision", "int4", "--level", str(level), "--json"]) == 0, capsys.readouterr().err
    report = json.loads(capsys.readouterr().out)
    assert report["compression"]["compressed"] == 3 and report["compression"]["size"] < 0.2


def test_a_table_for_people_says_what_was_compressed(dense: Path, capsys: Capture) -> None:
    assert main(["compile", str(dense), "--precision", "int4", "--no-cache"]) == 0
    printed = capsys.readouterr().out
    assert "compress  3 of 3 sites (int4 x3)" in printed and "diverges  t3: cosine 0.9" in printed and "x its size" in printed
    assert "\x1b" not in printed


def test_made_up_calibration_says_that_it_is(dense: Path, capsys: Capture) -> None:
    assert main(["compile", str(dense), "--precision", "int8", "--calibration", "random", "--no-cache"]) == 0
    assert "made up" in capsys.readouterr().out


def test_other_calibration_data_is_another_compilation(dense: Path, capsys: Capture) -> None:
    def hit(*words: str) -> bool:
        assert main(["compile", str(dense), "--precision", "int8", "--json", *words]) == 0, capsys.readouterr().err
        return bool(json.loads(capsys.readouterr().out)["cache"]["hit"])

    assert [hit(*data(dense)), hit(*data(dense)), hit(*data(dense)[:6]), hit(*data(dense), "--size"), hit(*data(dense), "--max-drop", "0.5")] == [
        False, True, False, False, False,
    ]  # fmt: skip


def test_a_mixture_is_asked_for_by_a_budget(dense: Path, capsys: Capture) -> None:
    assert main(["compile", str(dense), "--precision", "mixed", "--budget", "size=0.22", "--json"]) == 0, capsys.readouterr().err
    report = json.loads(capsys.readouterr().out)
    assert report["compression"]["size"] <= 0.22 and len({place["bits"] for place in report["compression"]["places"]}) > 1


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["--precision", "int8"], 2, "int8 needs real inputs to calibrate on: --calibration FILE, or --calibration random"),
        (["--precision", "int4", "--method", "gptq"], 2, "gptq needs calibration data"),
        (["--precision", "int4", "--method", "magic"], 2, "there is no quantisation method 'magic'"),
        (["--precision", "mixed"], 2, "a mixed precision needs to know what it may take"),
        (["--precision", "mixed", "--budget", "size=12"], 2, "a budget is written size=0.3"),
        (["--budget", "size=0.3"], 2, "only a mixed precision takes a budget"),
        (["--method", "gptq"], 2, "a method and a preferred size are for a lower precision"),
        (["--max-drop", "0.1"], 2, "a largest drop needs a metric"),
        (["--precision", "int4", "--max-drop", "lots"], 2, "the largest drop must be a number"),
        (["--precision", "int4", "--max-drop", "0"], 1, "Nothing was written"),
    ],
)
def test_what_cannot_be_is_one_sentence_and_writes_nothing(dense: Path, tmp_path: Path, capsys: Capture, words: list[str], code: int, sentence: str) -> None:
    assert main(["compile", str(dense), "-o", str(tmp_path / "out"), *words]) == code
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ") and sentence in captured.err and captured.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_model_without_sites_is_refused(tmp_path: Path, capsys: Capture) -> None:
    relu = onnx.parser.parse_model('<ir_version: 10, opset_import: ["" : 21]> g (float[batch, 16] x) => (float[batch, 16] y) { y = Relu(x) }')
    onnx.save(relu, tmp_path / "relu.onnx")
    assert main(["compile", str(tmp_path / "relu.onnx"), "--precision", "int8-dynamic", "-o", str(tmp_path / "out")]) == 1
    assert "there is nothing to compress" in capsys.readouterr().err and not (tmp_path / "out").exists()
