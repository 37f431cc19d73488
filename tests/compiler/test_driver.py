"""What `graphwright.compile`, `optimize` and `load` promise; races are decided by the test, never by the clock."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

import graphwright
from graphwright.backends.ort import backend as ort_backend
from graphwright.backends.ort.cuda.device import why_missing_here
from graphwright.backends.ort.options import DEFAULT
from graphwright.compiler.core.errors import (
    ArtifactError,
    BackendMissing,
    BudgetError,
    GraphwrightError,
    GraphwrightWarning,
    InputError,
    TargetError,
    UsageError,
)
from graphwright.compiler.driver import compile_model
from graphwright.compiler.request import Request

from .driving import Decide, X, parse, reference

pytestmark = pytest.mark.usefixtures("own_cache", "decide")


def test_the_public_names_are_there() -> None:
    assert set(graphwright.__all__) == {"Artifact", "GraphwrightError", "Target", "compile", "load", "optimize"}
    for name in graphwright.__all__:
        assert getattr(graphwright, name).__name__ == name


def test_what_is_faster_ships_computes_the_same_and_says_what_was_done(tmp_path: Path) -> None:
    artifact = graphwright.compile(parse(), X, output=tmp_path / "out")
    report = artifact.report
    assert report.shipped == "optimized"
    assert report.after.operators.get("Gelu") == 1 and report.after.nodes < report.before.nodes
    assert "2.00x faster than the input (95 % confidence 1.82x to 2.22x)" in report.verdict
    assert report.latency is not None and report.latency.ratio == 0.5
    assert any("fuse-gelu" in rule or "gelu" in rule for step in report.passes for rule in step.rules)
    np.testing.assert_allclose(artifact(X), reference(parse(), x=X)[0], rtol=1e-5, atol=1e-6)
    assert json.loads((tmp_path / "out" / "report.json").read_text())["shipped"] == "optimized"


@pytest.mark.parametrize("ratio", [0.97, 1.0, 1.5])
def test_what_is_not_faster_beyond_doubt_does_not_ship(decide: Decide, ratio: float) -> None:
    decide(ratio)
    artifact = graphwright.compile(parse(), X)
    assert artifact.report.shipped == "input"
    assert artifact.report.after == artifact.report.before
    assert "the input ships as it is" in artifact.report.verdict
    assert artifact.report.latency is None and [trial.shipped for trial in artifact.report.trials] == [False, False]
    np.testing.assert_array_equal(artifact(X), reference(parse(), x=X)[0])


def test_the_input_ships_with_better_options_when_no_rewrite_helps(decide: Decide) -> None:
    decide(1.1, 0.6)
    report = graphwright.compile(parse(), X).report
    assert report.shipped == "input"
    assert "ships with measured options" in report.verdict
    assert [(trial.candidate, trial.shipped) for trial in report.trials] == [("optimized", False), ("the input with measured options", True)]


def test_the_input_does_not_race_itself_when_no_option_is_better(decide: Decide, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ort_backend, "choose_options", lambda *args, **kwargs: (DEFAULT, ()))
    decide(1.1)
    report = graphwright.compile(parse(), X).report
    assert [trial.candidate for trial in report.trials] == ["optimized"]
    assert "the input ships as it is" in report.verdict


def test_fusing_is_left_to_the_runtime_where_our_kernels_do_not_pay(decide: Decide) -> None:
    conv = """
    <ir_version: 10, opset_import: ["" : 21]>
    g (float[n, 1, 3, 3] x) => (float[n, 2, 3, 3] y) <float[2, 1, 1, 1] w = {2, -3}, float[2] b = {1, 2}>
    { s = Identity(x) c = Conv(s, w, b) y = Relu(c) }
    """
    decide(1.2, 0.7)
    report = graphwright.compile(parse(conv), np.ones((2, 1, 3, 3), np.float32)).report
    assert [(trial.candidate, trial.shipped) for trial in report.trials] == [("optimized", False), ("without fuse", True)]
    assert "fuse" not in report.recipe.split(",") and "com.microsoft::FusedConv" not in report.after.operators and report.after.nodes == 2


def test_a_runtime_that_computes_something_else_does_not_ship(monkeypatch: pytest.MonkeyPatch) -> None:
    build = ort_backend.OrtBackend.build

    class Wrong:
        def __init__(self, runner: object) -> None:
            self.runner = runner
            self.inputs, self.outputs = runner.inputs, runner.outputs  # type: ignore[attr-defined]

        def run(self, feeds: object) -> dict[str, np.ndarray]:
            return {name: value * 1.01 for name, value in self.runner.run(feeds).items()}  # type: ignore[attr-defined]

        def close(self) -> None:
            self.runner.close()  # type: ignore[attr-defined]

    def wrong_when_optimized(self: object, model: ir.Model, samples: object, progress: object) -> object:
        built = build(self, model, samples, progress)  # type: ignore[arg-type]
        if any(node.op_type == "Gelu" for node in model.graph):
            built.runner = Wrong(built.runner)  # type: ignore[assignment]
        return built

    monkeypatch.setattr(ort_backend.OrtBackend, "build", wrong_when_optimized)
    report = graphwright.compile(parse(), X).report
    assert report.shipped == "input"
    assert any("made it differ from the input" in note for note in report.notes)


def test_a_saved_artifact_loads_and_its_program_gives_the_same_with_only_the_runtime(tmp_path: Path) -> None:
    artifact = graphwright.compile(parse(), X, output=tmp_path / "out")
    expected = artifact(X)
    np.testing.assert_array_equal(graphwright.load(tmp_path / "out")(X), expected)
    np.savez(tmp_path / "in.npz", x=X)
    program = tmp_path / "out" / "run.py"
    assert "graphwright" not in program.read_text().split('"""', 2)[-1]
    subprocess.run([sys.executable, str(program), str(tmp_path / "in.npz"), str(tmp_path / "result.npz")], check=True, capture_output=True)
    np.testing.assert_array_equal(np.load(tmp_path / "result.npz")["y"], expected)
    assert not (tmp_path / "out" / "__pycache__").exists()


@pytest.mark.parametrize("target", ["onnx", "ort-cpu"])
def test_the_portable_target_has_standard_operators_only(target: str) -> None:
    artifact = graphwright.compile(parse(), X, target=target)
    foreign = [name for name in artifact.report.after.operators if "::" in name]
    assert not foreign if target == "onnx" else artifact.report.target == "ort-cpu"
    np.testing.assert_allclose(artifact(X), reference(parse(), x=X)[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("target", ["ort-cuda", "tvm-cuda"])
def test_targets_whose_device_is_not_here_say_what_is_missing(target: str) -> None:
    if not why_missing_here():
        pytest.skip("a GPU is here")
    with pytest.raises(BackendMissing, match=f"{target} needs .*pip install 'graphwright"):
        graphwright.compile(parse(), X, target=target)


@pytest.mark.parametrize(
    ("options", "error", "sentence"),
    [
        ({"target": "toaster"}, TargetError, "no target 'toaster'"),
        ({"precision": "int3"}, UsageError, "'int3' is not there; there are: fp32, int8"),
        ({"level": 7}, UsageError, "no level 7"),
        ({"level": "no-such-pass"}, UsageError, "no-such-pass"),
        ({"level": [3]}, UsageError, "3 is no pass"),
        ({"max_drop": 0.1}, UsageError, "needs a metric"),
        ({"max_drop": "a lot", "metric": lambda runner: 1.0}, UsageError, "not 'a lot'"),
        ({"max_drop": -1, "metric": lambda runner: 1.0}, UsageError, "at least 0"),
    ],
)
def test_a_wrong_call_is_one_sentence(options: dict[str, object], error: type[GraphwrightError], sentence: str) -> None:
    with pytest.raises(error, match=sentence):
        graphwright.compile(parse(), X, **options)  # type: ignore[arg-type]


def test_a_place_that_cannot_be_written_is_refused_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "cat.jpg").write_text("cat")
    (tmp_path / "file").write_text("x")
    for place in (tmp_path / "mine", tmp_path / "file", tmp_path / "file" / "out"):
        with pytest.raises(ArtifactError):
            graphwright.compile(b"not even a model", output=place)


def test_an_interrupt_leaves_the_old_artifact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graphwright.compile(parse(), X, output=tmp_path / "out")
    before = (tmp_path / "out" / "manifest.json").read_bytes()

    def interrupt(*args: object) -> object:
        raise KeyboardInterrupt

    monkeypatch.setattr(ort_backend.OrtBackend, "package", interrupt)
    monkeypatch.setenv("GRAPHWRIGHT_CACHE", "off")
    with pytest.raises(KeyboardInterrupt):
        graphwright.compile(parse(), X, output=tmp_path / "out")
    assert (tmp_path / "out" / "manifest.json").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "out"]


def test_a_metric_is_measured_before_and_after(tmp_path: Path) -> None:
    seen: list[np.ndarray] = []

    def mean(runner: object) -> float:
        seen.append(runner.run({"x": X})["y"])  # type: ignore[attr-defined]
        return float(seen[-1].mean())

    accuracy = graphwright.compile(parse(), X, metric=mean, max_drop="0.5%").report.accuracy
    assert accuracy is not None and accuracy.metric == "mean"
    assert accuracy.allowed == pytest.approx(0.005 * abs(accuracy.before))
    np.testing.assert_allclose(seen[0], seen[1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("max_drop", "after", "fits"), [(0.1, 0.81, True), (0.1, 0.79, False), ("10%", 0.82, True), ("10%", 0.8, False), (0.1, float("nan"), False)]
)
def test_a_metric_that_falls_too_far_writes_nothing(tmp_path: Path, max_drop: object, after: float, fits: bool) -> None:
    answers = [0.9, after]

    def metric(runner: object) -> float:
        return answers.pop(0)

    if fits:
        graphwright.compile(parse(), X, metric=metric, max_drop=max_drop, output=tmp_path / "out")  # type: ignore[arg-type]
        return
    with pytest.raises(BudgetError, match="metric fell from 0.9 to"):
        graphwright.compile(parse(), X, metric=metric, max_drop=max_drop, output=tmp_path / "out")  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


def test_a_metric_that_fails_is_one_sentence() -> None:
    def metric(runner: object) -> float:
        raise ZeroDivisionError("no images")

    with pytest.raises(GraphwrightError, match="the metric metric failed: ZeroDivisionError: no images"):
        graphwright.compile(parse(), X, metric=metric)

def test_a_path_and_a_proto_give_a_proto_and_ir_gives_ir(tmp_path: Path) -> None:
    onnx.save(parse(), tmp_path / "m.onnx")
    source = ir.from_proto(parse())
    for model, kind in ((tmp_path / "m.onnx", onnx.ModelProto), (str(tmp_path / "m.onnx"), onnx.ModelProto), (parse(), onnx.ModelProto), (source, ir.Model)):
        result = graphwright.optimize(model)
        assert isinstance(result, kind)
        proto = result if isinstance(result, onnx.ModelProto) else ir.to_proto(result)
        assert [node.op_type for node in proto.graph.node] == ["MatMul", "Gelu"]
        np.testing.assert_allclose(reference(proto, x=X)[0], reference(parse(), x=X)[0], rtol=1e-5, atol=1e-6)
    assert [node.op_type for node in source.graph][1] == "Identity", "the source stays as it was"


def test_a_model_that_cannot_be_run_is_checked_in_structure_only_and_says_so() -> None:
    text = '<ir_version: 10, opset_import: ["" : 21]> g (int16[2] x) => (int16[2] y) { a = Identity(x) b = Relu(a) y = Identity(b) }'
    with pytest.warns(GraphwrightWarning, match="only the structure"):
        result = graphwright.optimize(parse(text))
    assert [node.op_type for node in result.graph.node] == ["Relu"]  # type: ignore[union-attr]
def test_sizes_asked_for_are_what_is_timed() -> None:
    artifact = compile_model(parse(), None, Request(dims={"batch": 5}))
    assert any("x [5, 4]" in note for note in artifact.report.notes)
    with pytest.raises(UsageError, match="no dimension 'width'; they have: batch"):
        compile_model(parse(), None, Request(dims={"width": 5}))

def test_sizes_and_example_inputs_exclude_each_other() -> None:
    with pytest.raises(UsageError, match="the example inputs have theirs already"):
        compile_model(parse(), X, Request(dims={"batch": 5}))


def test_a_fixed_dimension_cannot_be_asked_for() -> None:
    text = '<ir_version: 10, opset_import: ["" : 21]> g (float[2] x) => (float[2] y) { y = Relu(x) }'
    with pytest.raises(UsageError, match="all their dimensions are fixed"):
        compile_model(parse(text), None, Request(dims={"batch": 5}))


def test_example_inputs_that_do_not_fit_are_one_sentence() -> None:
    with pytest.raises(InputError):
        graphwright.compile(parse(), np.ones((2, 5), np.float32))


def test_level_three_keeps_the_fastest_variant(decide: Decide) -> None:
    decide(0.9, 0.5, 0.4, 2.0)
    report = graphwright.compile(parse(), X, level=3).report
    shipped = [trial.candidate for trial in report.trials if trial.shipped]
    assert len(shipped) == 1 and shipped[0].startswith("without ")
    assert report.shipped == "optimized" and report.latency.ratio == 0.5  # type: ignore[union-attr]
