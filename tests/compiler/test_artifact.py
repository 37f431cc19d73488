"""An artifact is called like the model it came from, saved whole, and only loaded when it is what was written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

import ml_dtypes
import numpy as np
import pytest

from graphwright.compiler import nesting, tensors
from graphwright.compiler.artifact import Artifact, from_built, load_artifact
from graphwright.compiler.core.backend import Array, Built, Port
from graphwright.compiler.core.errors import ArtifactError, InputError
from graphwright.compiler.manifest import Manifest, TargetEntry, port_entries, versions
from graphwright.compiler.report import ModelEntry, Report

INPUTS = (Port("x", "tensor(float)", ("n",)), Port("y", "tensor(float)", ("n",)))
OUTPUTS = (Port("sum", "tensor(float)", ("n",)), Port("difference", "tensor(float)", ("n",)))


class SumRunner:
    """x + y and x - y."""

    inputs, outputs = INPUTS, OUTPUTS

    def __init__(self, scale: float = 1.0) -> None:
        self.scale = scale
        self.closed = False

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        if set(feeds) != {"x", "y"}:
            raise InputError(f"got {sorted(feeds)}")
        x, y = (np.asarray(feeds[name]) for name in "xy")
        return {"sum": self.scale * (x + y), "difference": self.scale * (x - y)}

    def close(self) -> None:
        self.closed = True


class SumBackend:
    """Packages its one number."""

    name = "sum"

    def package(self, built: Built, folder: Path) -> tuple[Path, ...]:
        (folder / "deep").mkdir()
        (folder / "deep" / "scale").write_text(str(built.runner.scale))  # type: ignore[attr-defined]
        return (folder / "deep" / "scale",)

    def load(self, folder: Path, options: Mapping[str, object]) -> SumRunner:
        return SumRunner(float((folder / "deep" / "scale").read_text()))


def make(scale: float = 2.0, structure: object = None, **hooks: object) -> Artifact:
    manifest = Manifest(
        graphwright="0.1.0",
        versions=versions(),
        target=TargetEntry(name="sum-cpu", backend="sum", device="cpu"),
        level="2",
        precision="fp32",
        recipe="fold",
        seeds={"samples": 0},
        inputs=port_entries(INPUTS),
        outputs=port_entries(OUTPUTS),
        structure=structure,
    )
    size = ModelEntry(nodes=2, weight_bytes=0, opset=21)
    report = Report(graphwright="0.1.0", model="sum.onnx", kind="path", target="sum-cpu", level="2", precision="fp32", recipe="fold",
                    shipped="input", verdict="v", before=size, after=size)  # fmt: skip
    built = Built(SimpleNamespace(), SumRunner(scale))  # type: ignore[arg-type]
    return from_built(built, SumBackend(), manifest, report, **hooks)  # type: ignore[arg-type]


def load(folder: Path) -> Artifact:
    return load_artifact(folder, lambda name: SumBackend())  # type: ignore[arg-type, return-value]


X, Y = np.array([1.0, 2.0], np.float32), np.array([3.0, 5.0], np.float32)


def test_arrays_go_in_by_position_or_name_and_arrays_come_out() -> None:
    artifact = make()
    for answer in (artifact(X, Y), artifact(X, y=Y), artifact(y=Y, x=X), artifact([X, Y])):
        total, difference = answer
        np.testing.assert_array_equal(total, 2 * (X + Y))
        np.testing.assert_array_equal(difference, 2 * (X - Y))
    assert set(artifact.run({"x": X, "y": Y})) == {"sum", "difference"}


def test_tensors_go_in_and_tensors_come_out() -> None:
    torch = pytest.importorskip("torch")
    total, difference = make()(torch.tensor(X), torch.tensor(Y, requires_grad=True))
    assert isinstance(total, torch.Tensor) and isinstance(difference, torch.Tensor)
    np.testing.assert_array_equal(total.numpy(), 2 * (X + Y))


def test_outputs_nest_as_the_source_says_and_still_do_after_loading(tmp_path: Path) -> None:
    def restore(leaves: list[object]) -> object:
        return {"logits": leaves[0], "extra": [None, (leaves[1], 7)]}

    artifact = make(restore=restore, structure=nesting.describe(restore, 2))
    artifact.save(tmp_path / "out")
    for one in (artifact, load(tmp_path / "out")):
        answer = one(X, Y)
        assert list(answer) == ["logits", "extra"] and answer["extra"][0] is None and answer["extra"][1][1] == 7
        np.testing.assert_array_equal(answer["extra"][1][0], 2 * (X - Y))


def test_a_nesting_that_cannot_be_kept_is_none() -> None:
    assert nesting.describe(lambda leaves: SimpleNamespace(first=leaves[0]), 1) is None


@pytest.mark.parametrize(
    ("arguments", "named", "sentence"),
    [((X, Y, X), {}, "2 inputs"), ((X,), {"z": Y}, "no input 'z'"), ((X, Y), {"x": X}, "twice")],
)
def test_wrong_inputs_are_one_sentence(arguments: tuple[object, ...], named: dict[str, object], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        make()(*arguments, **named)


def test_a_saved_artifact_loads_and_computes_the_same(tmp_path: Path) -> None:
    make(3.0).save(tmp_path / "out")
    with load(tmp_path / "out") as artifact:
        np.testing.assert_array_equal(artifact(X, Y)[0], 3 * (X + Y))
        assert artifact.report.model == "sum.onnx"
        assert "sum.onnx" in repr(artifact) and "x, y" in repr(artifact)
        artifact.save(tmp_path / "copy")
    np.testing.assert_array_equal(load(tmp_path / "copy")(X, Y)[0], 3 * (X + Y))
    assert {path.name for path in (tmp_path / "copy").iterdir()} == {"deep", "manifest.json", "report.json", "report.html"}


def test_an_artifact_can_be_saved_over_itself(tmp_path: Path) -> None:
    make(3.0).save(tmp_path / "out")
    load(tmp_path / "out").save(tmp_path / "out")
    np.testing.assert_array_equal(load(tmp_path / "out")(X, Y)[0], 3 * (X + Y))


@pytest.mark.parametrize("name", ["deep/scale", "report.json", "report.html"])
@pytest.mark.parametrize("damage", ["changed", "gone"])
def test_a_file_that_is_not_what_was_written_is_refused(tmp_path: Path, name: str, damage: str) -> None:
    make().save(tmp_path / "out")
    path = tmp_path / "out" / name
    if damage == "gone":
        path.unlink()
    else:
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
    with pytest.raises(ArtifactError, match=f"{path.name}' is (missing|not the file that was written)"):
        load(tmp_path / "out")


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"kind": 3}', "\x00\xff"])
def test_a_broken_manifest_is_one_sentence(tmp_path: Path, text: str) -> None:
    make().save(tmp_path / "out")
    (tmp_path / "out" / "manifest.json").write_text(text, encoding="latin-1")
    with pytest.raises(ArtifactError, match="manifest.json' cannot be read") as caught:
        load(tmp_path / "out")
    assert "\n" not in str(caught.value)


def test_a_manifest_that_points_outside_is_refused(tmp_path: Path) -> None:
    make().save(tmp_path / "out")
    path = tmp_path / "out" / "manifest.json"
    document = json.loads(path.read_text())
    document["files"]["../secret"] = document["files"].pop("deep/scale")
    path.write_text(json.dumps(document))
    with pytest.raises(ArtifactError, match="outside the folder"):
        load(tmp_path / "out")


def test_a_newer_format_is_named(tmp_path: Path) -> None:
    make().save(tmp_path / "out")
    path = tmp_path / "out" / "manifest.json"
    path.write_text(path.read_text().replace('"format": 1', '"format": 99'))
    with pytest.raises(ArtifactError, match="format 99"):
        load(tmp_path / "out")


def test_what_is_no_artifact_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for place, sentence in ((tmp_path / "nowhere", "does not exist"), (tmp_path / "file", "is a file"), (tmp_path, "has no manifest.json")):
        with pytest.raises(ArtifactError, match=sentence):
            load(place)


def test_a_folder_with_other_things_in_it_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_text("cat")
    with pytest.raises(ArtifactError, match="not an artifact, so it is not replaced"):
        make().save(tmp_path / "photos")
    make().save(tmp_path / "out")
    (tmp_path / "out" / "notes.txt").write_text("mine")
    with pytest.raises(ArtifactError, match="notes.txt"):
        make().save(tmp_path / "out")
    assert (tmp_path / "out" / "notes.txt").read_text() == "mine"
    (tmp_path / "empty").mkdir()
    make().save(tmp_path / "empty")


def test_a_failing_backend_leaves_the_old_artifact(tmp_path: Path) -> None:
    make(1.0).save(tmp_path / "out")
    artifact = make(2.0)

    def fail(folder: Path) -> list[str]:
        (folder / "half").write_text("x")
        raise RuntimeError("broken")

    artifact._fill = fail
    with pytest.raises(RuntimeError):
        artifact.save(tmp_path / "out")
    np.testing.assert_array_equal(load(tmp_path / "out")(X, Y)[0], X + Y)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_closing_closes_the_runner() -> None:
    artifact = make()
    runner = artifact.runner
    artifact.close()
    assert runner.closed  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["bfloat16", "float8_e4m3fn", "float8_e5m2"])
def test_small_floats_cross_between_torch_and_numpy_bit_for_bit(name: str) -> None:
    torch = pytest.importorskip("torch")
    values = np.array([[0.5, -2.0], [1.5, 0.0]], np.float32).astype(getattr(ml_dtypes, name))
    tensor = tensors.to_torch(values, torch.device("cpu"))
    assert tensor.dtype == getattr(torch, name)
    assert tensor.to(torch.float32).tolist() == [[0.5, -2.0], [1.5, 0.0]]
    again = tensors.to_numpy(tensor)
    assert again.dtype == values.dtype and again.tobytes() == values.tobytes()


def test_a_scalar_stays_a_scalar() -> None:
    torch = pytest.importorskip("torch")
    assert tensors.to_torch(np.array(0.5, ml_dtypes.bfloat16), torch.device("cpu")).shape == ()
    assert tensors.to_torch(np.array(0.5, np.float32), torch.device("cpu")).shape == ()
    assert tensors.to_numpy(3).shape == ()
