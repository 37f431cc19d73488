"""Compression under a budget: what ships, what is put back, what is refused, and what the report says of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest

import graphwright
from graphwright.backends.ort import backend as ort_backend
from graphwright.backends.ort.options import DEFAULT
from graphwright.compiler import kernel_choice, search
from graphwright.compiler.artifact import Artifact
from graphwright.compiler.core.backend import Runner
from graphwright.compiler.core.errors import BudgetError, GraphwrightError, NoChangeError, UsageError
from graphwright.compiler.core.passes import Pass, parse_pipeline
from graphwright.compiler.driver import compile_model
from graphwright.compiler.request import Request
from graphwright.compiler.timing import Comparison

from .compressing import RoundWeights, mlp, rows

X = rows()
Decide = Callable[..., None]
BEFORE, AFTER = parse_pipeline("inline-functions,constants-to-initialisers,fold-constants"), parse_pipeline("fuse,eliminate-dead-code,settle-opset")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAPHWRIGHT_CACHE", str(tmp_path / "cache"))


@pytest.fixture(autouse=True)
def decide(monkeypatch: pytest.MonkeyPatch) -> Iterator[Decide]:
    """``decide(0.5, 1.0)``: the ratios that races come out with, in turn; the last one repeats."""
    won = SimpleNamespace(to_dict=lambda: {"changed": {"threads": 1}, "chosen": True, "failure": ""})
    monkeypatch.setattr(ort_backend, "choose_options", lambda *args, **kwargs: (DEFAULT, (won,)))
    monkeypatch.setattr(kernel_choice, "compare_runners", lambda *_, **__: Comparison(0.5, 1.0, 0.5, 0.45, 0.55, 20))
    ratios: list[float] = [0.5]

    def compare(a: object, b: object, samples: object, **limits: object) -> Comparison:
        ratio = ratios.pop(0) if len(ratios) > 1 else ratios[0]
        return Comparison(ratio, 1.0, ratio, ratio - 0.05, ratio + 0.05, 20)

    monkeypatch.setattr(search, "compare_runners", compare)

    def say(*wanted: float) -> None:
        ratios[:] = wanted

    yield say


def compiled(step: Pass | None = None, model: onnx.ModelProto | None = None, **options: object) -> Artifact:
    request = Request(level=(*BEFORE, step or RoundWeights(), *AFTER), **options)  # type: ignore[arg-type]
    return compile_model(model if model is not None else mlp(), X, request)


def top1(runner: Runner) -> float:
    """How often the largest score is the one of the model before."""
    return float(np.mean(runner.run({"x": X})["logits"].argmax(axis=1) == TRUTH))  # type: ignore[union-attr]


def truth() -> np.ndarray:
    import onnxruntime

    session = onnxruntime.InferenceSession(mlp().SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": X})[0].argmax(axis=1)  # type: ignore[no-any-return]


TRUTH = truth()


def test_what_was_compressed_ships_with_its_coverage_and_divergence() -> None:
    report = compiled().report
    assert report.shipped == "optimized" and "2.00x faster than the input" in report.verdict
    found = report.compression
    assert found is not None and (found.sites, found.compressed, found.bits, found.weight_share) == (4, 4, 8.0, 1.0)
    assert 0.95 < found.flops_share < 1
    assert [place.name for place in found.places] == ["h0", "h1", "h2", "logits"] and {place.form for place in found.places} == {"int8"}
    assert 0.2 < found.size < 0.35
    (entry,) = report.divergence
    assert entry.output == "logits" and entry.samples == 1 and 0.99 < entry.cosine < 1 and 20 < entry.snr_db < 60
    assert entry.agreement is not None and entry.kl is not None and 0 < entry.kl < 0.1
    assert report.verification is not None and report.verification.reference.startswith("the compressed model")
    assert report.verification.worst is not None and not report.verification.worst.broken


def test_the_report_shows_what_was_left_and_why() -> None:
    report = compiled(RoundWeights(keep=("h1",)), mlp(classes=1)).report
    assert report.compression is not None
    left = {place.name: place.why for place in report.compression.places if not place.form}
    assert left == {"h1": "it was asked to stay", "logits": "its weight has only 1 row or column"}
    assert report.compression.compressed == 2 and 0.6 < report.compression.weight_share < 0.7


def test_a_request_that_compresses_nothing_says_why_and_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(NoChangeError, match="none of the 4 sites can be compressed .'h0' and 3 more: it was asked to stay"):
        compiled(RoundWeights(keep=("h0", "h1", "h2", "logits")), output=tmp_path / "out")
    relu = onnx.parser.parse_model('<ir_version: 10, opset_import: ["" : 21]> g (float[batch, 16] x) => (float[batch, 16] y) { y = Relu(x) }')
    with pytest.raises(NoChangeError, match="the model multiplies by no constant matrix or kernel"):
        compiled(model=relu, output=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_is_neither_faster_nor_smaller_is_refused(decide: Decide, tmp_path: Path) -> None:
    decide(1.3)
    with pytest.raises(NoChangeError, match="takes 1.30x the time of the input here. Say --size"):
        compiled(output=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_is_slower_ships_when_the_size_was_asked_for(decide: Decide) -> None:
    decide(1.3)
    report = compiled(size=True).report
    assert report.shipped == "optimized" and report.verdict.startswith("1.30x the time of the input at 0.2") and "because it is smaller" in report.verdict


def test_what_is_smaller_and_as_fast_ships(decide: Decide) -> None:
    decide(1.0)
    assert compiled().report.shipped == "optimized"


def test_the_site_to_blame_is_put_back_until_the_metric_holds() -> None:
    step = RoundWeights(spoil="h2")
    assert top1(compiled(step).runner) < 0.8
    report = compiled(step, metric=top1, max_drop=0.05).report
    found = report.compression
    assert found is not None and found.put_back == ["h2"] and found.compressed == 3
    place = next(place for place in found.places if place.name == "h2")
    assert not place.form and "put back, for the accuracy budget does not hold with it" in place.why
    assert place.sensitivity is not None and place.sensitivity == max(other.sensitivity or 0 for other in found.places)
    assert report.accuracy is not None and report.accuracy.metric == "top1" and report.accuracy.before == 1.0 and report.accuracy.drop <= 0.05
    assert "keep=h2" in report.recipe


def test_a_relative_drop_is_held_too() -> None:
    report = compiled(RoundWeights(spoil="h1"), metric=top1, max_drop="5%").report
    assert report.compression is not None and report.compression.put_back == ["h1"]
    assert report.accuracy is not None and report.accuracy.drop <= report.accuracy.allowed == 0.05  # type: ignore[operator]


def test_without_a_metric_the_largest_drop_bounds_agreement_with_the_input() -> None:
    report = compiled(RoundWeights(spoil="h0"), max_drop=0.05).report
    assert report.compression is not None and report.compression.put_back == ["h0"]
    assert report.accuracy is not None and report.accuracy.metric == "agreement with the input" and report.accuracy.drop <= 0.05


def test_a_budget_that_nothing_holds_is_an_error_and_writes_nothing(tmp_path: Path) -> None:
    def exact(runner: Runner) -> float:
        return -float(np.abs(runner.run({"x": X})["logits"] - FIRST).max())  # type: ignore[operator]

    session = __import__("onnxruntime").InferenceSession(mlp().SerializeToString(), providers=["CPUExecutionProvider"])
    FIRST = session.run(None, {"x": X})[0]
    with pytest.raises(BudgetError, match="exact fell from .*not even '.*', which minds least, can be compressed alone"):
        compiled(RoundWeights(bits=3), metric=exact, max_drop=1e-6, output=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_metric_that_fails_is_one_sentence() -> None:
    def broken(runner: Runner) -> float:
        raise ValueError("no labels")

    with pytest.raises(GraphwrightError, match="the metric broken failed: ValueError: no labels"):
        compiled(metric=broken, max_drop=0.1)


def test_compressing_runs_once_however_many_variants_are_raced(monkeypatch: pytest.MonkeyPatch, decide: Decide) -> None:
    runs: list[int] = []
    run = RoundWeights.run

    def counted(self: RoundWeights, model: object, context: object) -> int:
        runs.append(1)
        return run(self, model, context)  # type: ignore[arg-type]

    monkeypatch.setattr(RoundWeights, "run", counted)
    decide(1.3, 1.2, 0.5)
    compiled(size=True)
    assert len(runs) == 1


def test_an_artifact_of_a_budget_with_a_metric_is_not_taken_from_the_cache() -> None:
    request = Request(precision="int4", metric=top1, max_drop=0.1)
    assert not request.repeatable and dataclasses.replace(request, max_drop=None).repeatable and dataclasses.replace(request, metric=None).repeatable


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"precision": "int8"}, "int8 needs real inputs to calibrate on: --calibration FILE, or --calibration random"),
        ({"precision": "mixed"}, "a mixed precision needs to know what it may take"),
        ({"precision": "mixed", "budget": "size=2"}, "a budget is written size=0.3"),
        ({"precision": "mixed", "budget": "speed=2"}, "a budget is written size=0.3"),
        ({"budget": "size=0.3"}, "only a mixed precision takes a budget"),
        ({"method": "gptq"}, "a method and a preferred size are for a lower precision"),
        ({"size": True}, "a method and a preferred size are for a lower precision"),
    ],
)
def test_what_does_not_go_together_is_one_sentence(options: dict[str, object], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        graphwright.compile(mlp(), X, **options)  # type: ignore[arg-type]
