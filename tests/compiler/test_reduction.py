"""--prune, --rank, --sparsity and --recover: which passes they mean, where those stand, and what they do not go with."""

from __future__ import annotations

import dataclasses

import numpy as np
import onnx
import pytest

import graphwright
from graphwright.compiler.core.errors import BudgetError, NoChangeError, UsageError
from graphwright.compiler.core.passes import format_pipeline, parse_pipeline, pass_classes
from graphwright.compiler.core.target import PORTABLE
from graphwright.compiler.driver import compile_model
from graphwright.compiler.pipeline import alone, leaving, pipeline_for
from graphwright.compiler.reduction import REDUCTIONS, reductions, with_reductions
from graphwright.compiler.report_table import describe_reduction
from graphwright.compiler.request import Request

from .compressing import mlp, rows


def test_every_option_means_a_pass_and_options_that_exist() -> None:
    for option, found in REDUCTIONS.items():
        declared = {field.name for field in dataclasses.fields(pass_classes()[found.step])}
        assert set(found.amounts) <= declared, option
        assert option in {field.name for field in dataclasses.fields(Request)}
        example = {"ratio": "0.25", "rank": "8", "amount": "2:4", "minutes": "1"}
        for amount in found.amounts:
            (step,) = reductions({option: example[amount]})
            assert (step.name, str(getattr(step, amount))) == (found.step, str(type(getattr(step, amount))(example[amount])))


def test_an_option_is_its_pass_with_a_number_and_more_options() -> None:
    (step,) = reductions({"prune": "0.25,of=parameters,uniform=true"})
    assert format_pipeline([step]) == "prune-structured{ratio=0.25,of=parameters,uniform=true}"
    assert reductions({"prune": 0.25, "rank": None}) == parse_pipeline("prune-structured{ratio=0.25}")


@pytest.mark.parametrize("text", ["much", "0.3,hope=1", "0.3,of"])
def test_what_cannot_be_read_is_named_with_its_option(text: str) -> None:
    with pytest.raises(UsageError, match="--prune"):
        reductions({"prune": text})


@pytest.mark.parametrize("level", [0, 1, 2])
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_what_shrinks_a_model_stands_before_matrices_are_merged_and_weights_quantised(level: int, precision: str) -> None:
    steps = [step.name for step in Request(level=level, precision=precision, calibration="random", prune=0.3).steps(PORTABLE)]
    place = steps.index("prune-structured")
    assert steps.index("constants-to-initialisers") < place
    assert all(place < steps.index(name) for name in ("merge-parallel", "quantize-static", "fuse", "settle-opset") if name in steps)


def test_what_is_asked_for_twice_is_refused() -> None:
    with pytest.raises(UsageError, match="asked for twice"):
        with_reductions(parse_pipeline("constants-to-initialisers,prune-structured"), reductions({"prune": 0.3}))


def test_the_method_of_a_precision_is_not_one_of_pruning() -> None:
    steps = Request(precision="int4", method="rtn", prune=0.3).steps(PORTABLE)
    assert {step.name: getattr(step, "method", None) for step in steps if step.drift.value == "lossy"} == {
        "prune-structured": None,
        "quantize-weights": "rtn",
    }
    with pytest.raises(UsageError, match="lower precision"):
        Request(method="rtn", prune=0.3).steps(PORTABLE)


def test_a_mixed_precision_does_not_go_with_pruning() -> None:
    with pytest.raises(UsageError, match="prune-structured"):
        Request(precision="mixed", allowance="size=0.5", prune=0.3).steps(PORTABLE)


def test_sites_are_put_back_by_passes_that_compress_them_one_by_one_only() -> None:
    steps = parse_pipeline("prune-structured,quantize-weights")
    assert leaving(steps, ["a"]) == parse_pipeline("prune-structured,quantize-weights{keep=a}")
    assert alone(steps, "a") == parse_pipeline("prune-structured,quantize-weights{only=a}")
    assert with_reductions(pipeline_for(PORTABLE, 2, "fp32"), ()) == pipeline_for(PORTABLE, 2, "fp32")


def test_the_report_counts_what_is_left_and_the_artifact_reloads(tmp_path: object) -> None:
    model, data = mlp(layers=4), [{"x": rows(8, seed)} for seed in range(4)]
    request = Request(target="onnx", prune="0.3,of=parameters", size=True, cache=False, output=tmp_path / "out")  # type: ignore[operator]
    with compile_model(model, data, request) as artifact:
        reduction = artifact.report.reduction
        assert reduction is not None
        assert reduction.parameters_after / reduction.parameters_before == pytest.approx(0.7, abs=0.04)
        assert reduction.flops_after < reduction.flops_before
        assert reduction.bytes_after < reduction.bytes_before
        assert "zero" not in describe_reduction(reduction)
        expected = artifact.run(data[0])["logits"]
    with graphwright.load(tmp_path / "out") as again:  # type: ignore[operator]
        np.testing.assert_array_equal(again.run(data[0])["logits"], expected)
        assert again.report.reduction == reduction
    assert onnx.load(tmp_path / "out" / "model.onnx")  # type: ignore[operator]


def test_pruning_too_much_for_the_budget_is_refused_and_nothing_is_written(tmp_path: object) -> None:
    request = Request(target="onnx", prune="0.6,score=chance", max_drop=0.01, size=True, cache=False, output=tmp_path / "out")  # type: ignore[operator]
    with pytest.raises(BudgetError, match="--recover"):
        compile_model(mlp(layers=4), [{"x": rows(8)}], request)
    assert not (tmp_path / "out").exists()  # type: ignore[operator]


def test_a_model_of_which_nothing_can_go_is_refused_with_the_reason() -> None:
    with pytest.raises(NoChangeError, match="it is an output of the model"):
        compile_model(mlp(layers=1), [{"x": rows(8)}], Request(target="onnx", prune=0.3, cache=False))
