"""Levels, pipelines as text, and what is left of them under --only and --without."""

from __future__ import annotations

import dataclasses

import pytest

from graphwright.compiler.core.errors import UsageError
from graphwright.compiler.core.passes import Pass, parse_pipeline, pass_classes
from graphwright.compiler.core.rulepass import RulePass
from graphwright.compiler.core.target import PORTABLE
from graphwright.compiler.pipeline import COMPRESSION, LEVELS, PRECISIONS, alone, demand, leaving, narrow, pipeline_for, recipe, split, steps_of


def names(steps: tuple[Pass, ...]) -> list[str]:
    return [step.name for step in steps]


def rules(steps: tuple[Pass, ...]) -> set[str]:
    return {item.name for step in steps if isinstance(step, RulePass) for item in step.chosen()}


@pytest.mark.parametrize("level", LEVELS)
def test_every_level_reads_back_from_its_text(level: int) -> None:
    steps = pipeline_for(PORTABLE, level, "fp32")
    assert parse_pipeline(recipe(steps)) == steps


def test_each_level_does_what_the_one_below_does_and_more() -> None:
    zero, one, two, three = (pipeline_for(PORTABLE, level, "fp32") for level in LEVELS)
    assert set(names(zero)) < set(names(one)) < set(names(two))
    assert two == three
    assert "fuse" in names(two) and "raise" in names(two)
    assert not {"fuse", "raise"} & set(names(one))


@pytest.mark.parametrize("level", [-1, 4])
def test_a_level_that_does_not_exist_is_named(level: int) -> None:
    with pytest.raises(UsageError, match=f"no level {level}; the levels are 0, 1, 2, 3"):
        pipeline_for(PORTABLE, level, "fp32")


def test_a_precision_that_does_not_exist_is_named_with_those_that_do() -> None:
    for level in (2, "fold-shapes", parse_pipeline("fold-shapes")):
        with pytest.raises(UsageError, match="'int3' is not there; there are: fp32, int8, int8-dynamic, int4, nf4, fp16, bf16, fp8, mixed"):
            steps_of(level, PORTABLE, "int3")


def test_a_pass_left_out_is_gone_everywhere() -> None:
    steps = pipeline_for(PORTABLE, 2, "fp32")
    left = narrow(steps, without=("fold-shapes",))
    assert "fold-shapes" not in names(left)
    assert names(left) == [name for name in names(steps) if name != "fold-shapes"]


def test_a_rule_left_out_is_gone_and_the_recipe_says_so() -> None:
    steps = pipeline_for(PORTABLE, 2, "fp32")
    left = narrow(steps, without=("fuse-gelu",)) if "fuse-gelu" in rules(steps) else narrow(steps, without=(sorted(rules(steps))[0],))
    (gone,) = rules(steps) - rules(left)
    assert f"without={gone}" in recipe(left)
    assert parse_pipeline(recipe(left)) == left


def test_only_keeps_the_passes_and_rules_named() -> None:
    steps = pipeline_for(PORTABLE, 2, "fp32")
    rule = sorted(rules(steps))[0]
    left = narrow(steps, only=("fold-shapes", rule))
    assert rules(left) == {rule}
    assert {step.name for step in left if not isinstance(step, RulePass)} == {"fold-shapes"}
    assert parse_pipeline(recipe(left)) == left


def test_a_pass_without_its_last_rule_is_left_out() -> None:
    steps = parse_pipeline("raise")
    assert narrow(steps, without=tuple(rules(steps))) == ()


@pytest.mark.parametrize("keep", ["only", "without"])
def test_a_name_that_is_neither_pass_nor_rule_is_named(keep: str) -> None:
    with pytest.raises(UsageError, match="no pass or rule 'fuse-everything'"):
        narrow(pipeline_for(PORTABLE, 2, "fp32"), **{keep: ("fuse-everything",)})


def test_any_name_survives_in_an_option_of_a_pipeline() -> None:
    odd = ("/model/layer.0/Add_output_0", "a+b", "c,d", "e{f}", "g=h", "100%", "two words", "ä", "%2B")
    step = parse_pipeline("fuse")[0]
    named = dataclasses.replace(step, only=odd)  # type: ignore[type-var]
    (again,) = parse_pipeline(recipe((named,)))
    assert again == named
    assert parse_pipeline(f"drop-no-ops,{recipe((named,))},fold-constants")[1] == named


@pytest.mark.parametrize("precision", [name for name in PRECISIONS if name in COMPRESSION and set(COMPRESSION[name].split("{")[:1]) <= set(pass_classes())])
@pytest.mark.parametrize("informed", [False, True])
@pytest.mark.parametrize("level", LEVELS)
def test_every_precision_compresses_once_before_fusion_and_reads_back(level: int, precision: str, informed: bool) -> None:
    steps = pipeline_for(PORTABLE, level, precision, informed)
    assert parse_pipeline(recipe(steps)) == steps
    before, lossy, after = split(steps)
    assert len(lossy) == 1 and "fuse" not in names(before) and "settle-opset" in names(after)
    assert ("fuse" in names(after)) == (level > 1)
    assert names(after)[0] == "eliminate-dead-code"
    assert names((*before, *after[1:])) == names(pipeline_for(PORTABLE, level, "fp32")) or level == 0 or informed


def test_a_precision_goes_into_passes_of_ones_own_unless_they_compress_themselves() -> None:
    compressed = "fold-constants,quantize-weights,eliminate-dead-code"
    assert recipe(steps_of("fold-constants,fuse,settle-opset", PORTABLE, "int4")) == f"{compressed},fuse,settle-opset"
    assert recipe(steps_of("fold-constants", PORTABLE, "int4")) == compressed
    assert recipe(steps_of("fold-constants,quantize-weights{bits=8}", PORTABLE, "int4")) == "fold-constants,quantize-weights{bits=8}"


def test_sites_are_left_and_chosen_in_every_pass_that_compresses() -> None:
    steps = parse_pipeline("fold-constants,quantize-weights{only=a+b},quantize-weights{bits=8,only=c},fuse")
    assert recipe(leaving(steps, ("b", "x,y"))) == "fold-constants,quantize-weights{only=a+b,keep=b+x%2Cy},quantize-weights{bits=8,only=c,keep=b+x%2Cy},fuse"
    assert recipe(alone(steps, "a")) == "fold-constants,quantize-weights{only=a},fuse"
    assert leaving(steps, ()) == steps
    with pytest.raises(UsageError, match="no pass of this precision has the option 'strength'"):
        demand(steps, strength=3)
    assert recipe(demand(steps, method="gptq")).count("method=gptq") == 2
