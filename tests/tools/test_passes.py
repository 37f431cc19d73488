"""What ``graphwright passes`` says, however many rules there are."""

from __future__ import annotations

import json

import pytest

from graphwright.compiler.core.passes import format_pipeline, parse_pipeline, pass_classes
from graphwright.compiler.core.rulepass import RulePass, rules_below
from graphwright.compiler.pipeline import narrow, pipeline_for
from graphwright.compiler.targets import find_target
from graphwright.tools.main import main

Capture = pytest.CaptureFixture[str]
RULES = [item for kind in pass_classes().values() if issubclass(kind, RulePass) for item in rules_below(kind.folder)]


def printed(capsys: Capture, *words: str, code: int = 0) -> str:
    assert main(["passes", *words]) == code
    found = capsys.readouterr()
    return found.out if code == 0 else found.err


def test_every_pass_and_every_rule_is_listed_with_class_equation_and_number_of_examples(capsys: Capture) -> None:
    lines = printed(capsys).splitlines()
    told = {line.split()[0]: line for line in lines if line.startswith("    ") and line.strip()}
    for item in RULES:
        line = told[item.name]
        assert item.equation in line and f"({item.drift.value}, {len(item.examples)} example" in line
        assert all(kernel in line for kernel in item.kernels)
    assert {line.split()[0] for line in lines if not line.startswith(" ")} >= pass_classes().keys()


@pytest.mark.parametrize("name", sorted(pass_classes()))
def test_a_pass_is_shown_alone_whatever_its_options_are_called(capsys: Capture, name: str) -> None:
    assert printed(capsys, name).startswith(name)
    assert json.loads(printed(capsys, name, "--json"))["name"] == name


def test_each_rule_takes_one_line(capsys: Capture) -> None:
    names = [line.split()[0] for line in printed(capsys).splitlines() if line.startswith("    ")]
    assert [item.name for item in RULES if names.count(item.name) != 1] == []


def test_one_rule_is_shown_with_its_examples_as_onnx_text(capsys: Capture) -> None:
    shown = printed(capsys, "unroll-loop")
    rule = next(item for item in RULES if item.name == "unroll-loop")
    assert all(text.strip() in shown for text in (*rule.examples, *rule.leaves)) and "opset 14 and up" in shown


def test_a_family_or_a_part_of_a_name_shows_its_rules(capsys: Capture) -> None:
    assert "unroll-scan" in printed(capsys, "unroll") and "hoist-invariants" not in printed(capsys, "unroll")
    found = json.loads(printed(capsys, "unread", "--json"))
    assert {item["name"] for item in found} == {"drop-unread-results", "drop-unread-states"}


def test_a_mistyped_name_is_answered_with_those_like_it(capsys: Capture) -> None:
    assert "Did you mean unroll-loop" in printed(capsys, "unrol-loop", code=2)


def test_json_says_what_a_rule_needs(capsys: Capture) -> None:
    found = json.loads(printed(capsys, "select-among-branches", "--json"))
    assert found["measured"] and found["family"] == "select" and found["kernels"] == [] and found["lifts"] is None


def test_a_name_means_one_rule_or_pass() -> None:
    names = [*pass_classes(), *(item.name for item in RULES)]
    assert sorted(name for name in set(names) if names.count(name) > 1) == []


def test_every_rule_of_a_level_can_be_left_out_and_tried_alone() -> None:
    steps = pipeline_for(find_target("ort-cpu"), 2, "fp32")
    names = list(dict.fromkeys(item.name for step in steps if isinstance(step, RulePass) for item in step.chosen()))
    assert "unroll-loop" in names
    for name in names:
        for left, there in ((narrow(steps, without=(name,)), False), (narrow(steps, only=(name,)), True)):
            kept = {item.name for step in left if isinstance(step, RulePass) for item in step.chosen()}
            assert (name in kept) == there and (there or len(kept) == len(names) - 1)
            assert parse_pipeline(format_pipeline(left)) == left


def test_a_pass_that_works_through_some_operators_only_lists_them(capsys: Capture) -> None:
    pytest.importorskip("torch")
    assert main(["passes", "recover"]) == 0
    told = capsys.readouterr().out
    assert "works through " in told and all(f" {name}," in told for name in ("Attention", "Conv", "LSTM", "MatMul", "QuantizeLinear", "Resize"))
