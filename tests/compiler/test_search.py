"""What level 3 tries, one change of the pipeline at a time."""

from __future__ import annotations

from graphwright.compiler.core.passes import format_pipeline, parse_pipeline
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


def test_doubtful_kernels_are_let_in_once() -> None:
    assert tried("raise,fuse", [{}, {}]) == {"with fuse{doubtful=true}": "raise,fuse{doubtful=true}"}
    assert tried("fuse{doubtful=true}", [{}]) == {}


def test_leaving_fusion_to_the_runtime_is_only_tried_when_ours_did_something() -> None:
    steps = parse_pipeline("raise,fuse")
    assert without_fusion(steps, [{}, {}]) is None
    assert format_pipeline(without_fusion(steps, [{}, {"fuse-bias-gelu": 1}]) or ()) == "raise"
