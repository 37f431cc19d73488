"""``graphwright explain`` names what stopped a rule, and where little was missing."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest

from graphwright.tools.main import main

Capture = pytest.CaptureFixture[str]
HEADER = '<ir_version: 10, opset_import: ["" : 21]>\n'
NEARLY_GELU = (
    "g (float[N,4] x) => (float[N,4] y) <float r = {1.4142135}, float one = {1}, float h = {0.25}>"
    " { d = Div(x, r) e = Erf(d) p = Add(e, one) q = Mul(x, p) m = Mul(q, h) y = Sin(m) }"
)
LOOPING = (
    "g (float[N] x, int64 n, bool c) => (float[N] y) { y = Loop(n, c, x) <body = b (int64 i, bool k, float[N] a) => (bool k1, float[N] a1)"
    " { k1 = Identity(k) a1 = Neg(a) }> }"
)


def saved(text: str, folder: Path) -> str:
    path = folder / "model.onnx"
    onnx.save(onnx.parser.parse_model(HEADER + text), path)
    return str(path)


def printed(capsys: Capture, *words: str, code: int = 0) -> str:
    assert main(["explain", *words]) == code, capsys.readouterr().err
    found = capsys.readouterr()
    return found.out if code == 0 else found.err


def test_without_a_rule_the_most_promising_come_first(tmp_path: Path, capsys: Capture) -> None:
    found = json.loads(printed(capsys, saved(NEARLY_GELU, tmp_path), "--json"))["rules"]
    near = [item for item in found if item["misses"]]
    promises = [item["promise"] for item in near]
    assert promises == sorted(promises, reverse=True)
    gelu = next(item for item in near if item["rule"] == "raise-gelu")
    assert gelu["promise"] >= 1 and gelu["misses"][0]["reason"]


def test_the_list_for_people_groups_places_by_reason_and_says_what_fired(tmp_path: Path, capsys: Capture) -> None:
    path = saved(NEARLY_GELU.replace("y = Sin(m)", "z = Identity(m) y = Sin(z)"), tmp_path)
    shown = printed(capsys, path)
    assert shown.startswith("fired: ") and "drop-identity 1x" in shown and "nearly fired at" in shown
    assert len(printed(capsys, path, "--all")) > len(shown)


def test_a_reason_names_the_value_that_stopped_the_rule(tmp_path: Path, capsys: Capture) -> None:
    text = "g (float[N] x) => (float[N] y) <int64 n = {1000}, bool c = {1}> " + LOOPING[LOOPING.index("{") :]
    assert "it runs 1000 times" in printed(capsys, saved(text, tmp_path), "--rule", "unroll-loop")


def test_a_rule_that_was_never_tried_is_told_why(tmp_path: Path, capsys: Capture) -> None:
    path = saved(LOOPING, tmp_path)
    assert "the model has no Scan" in printed(capsys, path, "--rule", "unroll-scan")
    assert "the target onnx has no com.microsoft::" in printed(capsys, path, "--rule", "fuse-gemm-activation", "--target", "onnx")


def test_a_pass_without_rules_can_be_asked_about(tmp_path: Path, capsys: Capture) -> None:
    found = json.loads(printed(capsys, saved(LOOPING, tmp_path), "--rule", "eliminate-dead-code", "--json"))
    assert found["rule"] == "eliminate-dead-code" and found["places"] == 0


def test_a_mistyped_rule_is_answered_with_those_like_it(tmp_path: Path, capsys: Capture) -> None:
    assert "Did you mean" in printed(capsys, saved(LOOPING, tmp_path), "--rule", "unroll-loops", code=2)
