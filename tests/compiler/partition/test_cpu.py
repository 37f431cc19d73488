"""The target cpu ships what was measured to be fastest, and nothing that computes something else."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

import graphwright.compiler.targets as targets
from graphwright.backends.ort.backend import OrtBackend
from graphwright.compiler.artifact import load_artifact
from graphwright.compiler.core.backend import Sample
from graphwright.compiler.core.errors import ArtifactError, BackendMissing
from graphwright.compiler.driver import compile_model
from graphwright.compiler.partition.cpu import CpuBackend
from graphwright.compiler.partition.package import BuiltParts
from graphwright.compiler.request import Request
from graphwright.tests.compiler.partition.runtimes import Rival, Usual

BRANCH = """
<ir_version: 9, opset_import: ["" : 18]>
g (float[N,8] x, int64 rate) => (float[M,8] y)
<int64 fast = {16}, float[8] w = {1, 2, 3, 4, 5, 6, 7, 8}>
{
    a = Relu(x)
    same = Equal(rate, fast)
    t = If(same) <
        then_branch = one () => (float[M,8] u) { u = Mul(a, w) },
        else_branch = two () => (float[M,8] v) { s = Sigmoid(a)  v = Concat<axis = 0>(s, s) }
    >
    e = Tanh(t)
    y = Add(e, w)
}
"""
SEQUENCE = """
<ir_version: 9, opset_import: ["" : 18]>
g (float[2,8] x, bool c) => (float[2,8] y, seq(float[N,M]) q)
<int64 two = {2}, float[8] w = {1, 2, 3, 4, 5, 6, 7, 8}>
{
    a = Tanh(x)
    on = Identity(c)
    l = Loop(two, on, a) <body = step (int64 i, bool k, float[2,8] h) => (bool k2, float[2,8] h2) { k2 = Identity(k)  h2 = Add(h, a) }>
    b = Tanh(l)
    q = SequenceConstruct(a, b)
    p = SequenceAt(q, one)
    s = Mul(p, w)
    y = Tanh(s)
}
""".replace("int64 two", "int64 one = {1}, int64 two")
FLOAT = np.float32


def silent(_: str) -> None:
    return None


def model_of(text: str) -> ir.Model:
    return ir.from_proto(onnx.parser.parse_model(text))


def quick(ort: OrtBackend, tvm: OrtBackend) -> CpuBackend:
    return CpuBackend(ort, lambda: tvm, each_s=0.05, race_s=0.1)


def sample(rows: int = 3, rate: int = 16) -> Sample:
    return {"x": np.random.default_rng(rows).standard_normal((rows, 8)).astype(FLOAT), "rate": np.array(rate)}


@pytest.fixture(autouse=True)
def _no_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAPHWRIGHT_CACHE", "off")


def mixed(text: str, feeds: Sample, slow: tuple[str, ...], lacks: tuple[str, ...], **options: float) -> tuple[CpuBackend, ir.Model, BuiltParts]:
    """A model of which the rival runs some parts."""
    model, backend = model_of(text), quick(Usual(*slow), Rival(*lacks, **options))
    built = backend.build(model, (feeds,), silent)
    assert isinstance(built, BuiltParts), built.rivals
    return backend, model, built


def test_what_the_rival_runs_faster_is_given_to_it_and_the_rest_stays() -> None:
    _, model, built = mixed(BRANCH, sample(), ("Tanh",), ("Relu",))
    places = {node.op_type: part.place for part, _ in built.parts for node in part.model.graph}
    assert places["Tanh"] == "tvm-cpu" and places["Relu"] == "ort-cpu"
    assert [(rival.name, rival.chosen) for rival in built.rivals] == [("onnxruntime", False), ("mixed", True)]
    expected = OrtBackend().reference(model).run(sample())
    np.testing.assert_array_equal(built.runner.run(sample())["y"], expected["y"])


def test_the_branch_that_the_example_inputs_take_is_all_that_is_built() -> None:
    _, _, built = mixed(BRANCH, sample(), ("Tanh",), ("Relu", "If"))
    assert "If" not in {node.op_type for part, _ in built.parts for node in part.model.graph}


@pytest.mark.parametrize("other", [sample(5), sample(3, 8), sample(1, 0)], ids=["other rows", "other branch", "both"])
def test_inputs_it_was_not_made_for_are_served_by_the_whole_model(other: Sample) -> None:
    _, model, built = mixed(BRANCH, sample(), ("Tanh",), ("Relu",))
    expected = OrtBackend().reference(model).run(other)["y"]
    np.testing.assert_array_equal(built.runner.run(other)["y"], expected)


def test_loops_and_sequences_stay_with_onnx_runtime() -> None:
    feeds = {"x": np.random.default_rng(0).standard_normal((2, 8)).astype(FLOAT), "c": np.array(True)}
    lacks = ("Loop", "SequenceConstruct", "SequenceAt", "Identity")
    _, model, built = mixed(SEQUENCE, feeds, ("Tanh",), lacks)
    assert {part.place for part, _ in built.parts} == {"ort-cpu", "tvm-cpu"}
    expected, found = OrtBackend().reference(model).run(feeds), built.runner.run(feeds)
    np.testing.assert_array_equal(found["y"], expected["y"])
    assert isinstance(found["q"], list) and len(found["q"]) == 2
    for one, other in zip(found["q"], expected["q"], strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_rival_that_takes_everything_runs_alone() -> None:
    _, _, built = mixed(BRANCH, sample(), ("Tanh", "Relu", "Mul", "Add"), ())
    assert built.options["runtime"] == "tvm" and len(built.parts) == 1


def test_what_is_faster_nowhere_is_not_shipped() -> None:
    backend = quick(Usual(), Rival("Relu"))
    built = backend.build(model_of(BRANCH), (sample(),), silent)
    assert not isinstance(built, BuiltParts) and built.options["runtime"] == "onnxruntime"
    assert built.rivals[0].chosen


def test_a_rival_whose_parts_compute_something_else_gets_none() -> None:
    built = quick(Usual("Tanh"), Rival("Relu", wrong=0.5)).build(model_of(BRANCH), (sample(),), silent)
    assert not isinstance(built, BuiltParts)
    assert [rival.name for rival in built.rivals] == ["onnxruntime"]
    assert any("does not compute" in remark for remark in built.remarks)


def test_a_rival_that_is_off_by_more_than_rounding_is_not_shipped() -> None:
    built = quick(Usual("Tanh"), Rival("Relu", wrong=0.0002)).build(model_of(BRANCH), (sample(),), silent)
    assert not isinstance(built, BuiltParts)
    assert "does not compute what the model does" in next(rival.failure for rival in built.rivals if rival.name == "mixed")


def test_a_rival_that_hides_nan_gets_none() -> None:
    built = quick(Usual("Tanh"), Rival("Relu", hides=True)).build(model_of(BRANCH), (sample(),), silent)
    assert not isinstance(built, BuiltParts)
    assert any("NaN" in remark for remark in built.remarks)


def test_without_tvm_onnx_runtime_serves_alone_and_one_sentence_says_so(tmp_path: Path) -> None:
    backend = CpuBackend(OrtBackend(), lambda: "it needs apache-tvm: pip install 'graphwright[tvm]'")
    model = model_of(BRANCH)
    built = backend.build(model, (sample(),), silent)
    assert built.remarks == ("TVM was not tried: it needs apache-tvm: pip install 'graphwright[tvm]'",)
    backend.package(built, tmp_path)
    runner = backend.load(tmp_path, built.options)
    np.testing.assert_allclose(runner.run(sample())["y"], OrtBackend().reference(model).run(sample())["y"], rtol=1e-6)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mixed artifact as the driver writes it."""
    folder = tmp_path_factory.mktemp("written")
    onnx.save(onnx.parser.parse_model(BRANCH), folder / "in.onnx")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRAPHWRIGHT_CACHE", "off")
        patch.setattr(targets, "_open_cpu", lambda tuning=None: quick(Usual("Tanh"), Rival("Relu")))
        request = Request(target="cpu", output=folder / "out", cache=False)
        with compile_model(str(folder / "in.onnx"), sample(), request) as artifact:
            assert artifact.manifest.options["runtime"] == "mixed", artifact.report.runtimes
            assert [entry.name for entry in artifact.report.runtimes if entry.chosen] == ["mixed"]
    return folder / "out"


@pytest.fixture
def saved(written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, with the backend that wrote it in the place of the real one."""
    monkeypatch.setattr(targets, "_open_cpu", lambda tuning=None: quick(Usual("Tanh"), Rival("Relu")))
    return Path(shutil.copytree(written, tmp_path / "out"))


def test_a_mixed_artifact_is_saved_and_loaded(saved: Path) -> None:
    assert (saved / "model.onnx").is_file() and (saved / "parts" / "0" / "model.onnx").is_file()
    with load_artifact(saved, targets.find_backend) as artifact:
        for feeds in (sample(), sample(6), sample(3, 8)):
            expected = OrtBackend().reference(model_of(BRANCH)).run(feeds)["y"]
            np.testing.assert_array_equal(artifact.run(feeds)["y"], expected)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda options: options["parts"][0].update(folder="../elsewhere"), "a part cannot lie in '../elsewhere'"),
        (lambda options: options["parts"][0].update(place="gpu"), "for the target gpu"),
        (lambda options: options.update(runtime="magic"), "runtime"),
        (lambda options: options.update(parts=[]), "none is named"),
        (lambda options: options["sizes"]["x"].update(dtype="floaty"), "no dtype 'floaty'"),
        (lambda options: options.update(extra=1), "extra"),
    ],
    ids=["folder", "place", "runtime", "no parts", "dtype", "unknown option"],
)
def test_a_tampered_manifest_is_refused(change: object, words: str, saved: Path) -> None:
    manifest = json.loads((saved / "manifest.json").read_text())
    change(manifest["options"])  # type: ignore[operator]
    (saved / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises((ArtifactError, BackendMissing), match=words), load_artifact(saved, targets.find_backend) as artifact:
        artifact.run(sample())


def test_a_part_that_was_changed_is_refused(saved: Path) -> None:
    part = saved / "parts" / "0" / "model.onnx"
    part.write_bytes(part.read_bytes() + b"\0")
    with pytest.raises(ArtifactError, match="is not the file that was written"):
        load_artifact(saved, targets.find_backend)


def test_a_part_for_tvm_says_what_is_missing_without_it(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(targets, "_open_cpu", lambda tuning=None: CpuBackend(OrtBackend(), lambda: "it needs apache-tvm"))
    with load_artifact(saved, targets.find_backend) as artifact, pytest.raises(BackendMissing, match="runs under TVM, but it needs apache-tvm"):
        artifact.run(sample())
