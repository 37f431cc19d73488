"""What level 3 tries, one change of the pipeline at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from graphwright.compiler.core.drift import Drift
from graphwright.compiler.core.passes import format_pipeline, parse_pipeline
from graphwright.compiler.core.rule import Rule
from graphwright.compiler.core.rulepass import RulePass
from graphwright.compiler.search import variants, without_fusion


def tried(text: str, fired: list[dict[str, int]]) -> dict[str, str]:
    return {name: format_pipeline(steps) for name, steps in variants(parse_pipeline(text), fired)}


def test_each_part_that_may_slow_a_model_down_is_left_out_once() -> None:
    found = tried("drop-no-ops,raise,fold-weights", [{"drop-identity": 3}, {"raise-gelu": 2, "raise-layer-norm": 1}, {}])
    assert found == {
        "without raise": "drop-no-ops,fold-weights",
        "without raise-gelu": "drop-no-ops,raise{without=raise-gelu},fold-weights",
        "without raise-layer-norm": "drop-no-ops,raise{without=raise-layer-norm},fold-weights",
    }


@dataclass(frozen=True)
class Fuse(RulePass):
    """A pass with one rule."""

    name = "fuse"
    drift = Drift.ROUNDING
    measured: bool = False

    def chosen(self, without: frozenset[str] = frozenset()) -> Sequence[Rule]:
        return (Rule("slow", "", lambda op, m: None, (), (), Drift.ROUNDING, doubtful=("cpu",), measured=self.measured),)


def test_doubtful_kernels_are_let_in_once() -> None:
    assert [name for name, _ in variants([Fuse()], [{}])] == ["with fuse{doubtful=true}"]
    assert list(variants([Fuse(doubtful=True)], [{}])) == []


def test_doubtful_kernels_that_were_measured_one_by_one_are_not_let_in_again() -> None:
    assert list(variants([Fuse(measured=True)], [{}])) == []


def test_leaving_fusion_to_the_runtime_is_only_tried_when_ours_did_something() -> None:
    steps = parse_pipeline("raise,fuse")
    assert without_fusion(steps, [{}, {}]) is None
    assert format_pipeline(without_fusion(steps, [{}, {"fuse-bias-gelu": 1}]) or ()) == "raise"
