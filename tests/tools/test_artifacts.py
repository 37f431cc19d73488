"""Artifacts of compiled code are told from models on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from graphwright.compiler.manifest import Manifest, TargetEntry, write_manifest
from graphwright.compiler.report import PortEntry
from graphwright.tools.main import main

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An artifact for aarch64."""
    place = tmp_path / "out"
    place.mkdir()
    (place / "model.so").write_bytes(bytes(3 << 20))
    port = PortEntry(name="x", dtype="tensor(float)", shape=[1, 3])
    target = TargetEntry(name="tvm-aarch64", backend="tvm", device="aarch64")
    options = {"mcpu": "cortex-a72"}
    made = Manifest(
        graphwright="0", versions={}, target=target, level="2", precision="fp32", recipe="", seeds={}, inputs=[port], outputs=[port], options=options
    )
    write_manifest(place, made)
    return place


def test_inspect_shows_ports_and_files_of_compiled_code(folder: Path, capsys: Capture) -> None:
    assert main(["inspect", str(folder)]) == 0
    printed = capsys.readouterr().out
    assert "compiled for tvm-aarch64 (mcpu cortex-a72)" in printed
    assert "tensor(float)" in printed and "[1, 3]" in printed
    assert "model.so  3.00 MiB" in printed
    assert main(["inspect", str(folder), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["inputs"] == [{"name": "x", "type": "tensor(float)", "shape": [1, 3]}]
    assert found["artifact"]["files"]["model.so"]["bytes"] == 3 << 20


def test_what_needs_operators_says_that_compiled_code_has_none(folder: Path, tmp_path: Path, capsys: Capture) -> None:
    assert main(["inspect", str(folder), "--plan", str(tmp_path / "plan.svg")]) == 2
    assert "holds code for tvm-aarch64 and no model.onnx" in capsys.readouterr().err


def test_bench_does_not_time_a_device_that_is_not_here(folder: Path, model: Path, inputs: Path, capsys: Capture) -> None:
    pytest.importorskip("tvm")
    assert main(["bench", str(model), str(folder), "--inputs", str(inputs), "--seconds", "0.1"]) == 2
    assert "is for aarch64, which this machine is not" in capsys.readouterr().err
