"""The front door as a user meets it: `graphwright.compile`, `optimize` and `load` on PyTorch modules, files and folders."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import graphwright
from graphwright.backends.ort import backend as ort_backend
from graphwright.backends.ort.options import DEFAULT
from graphwright.compiler import search
from graphwright.compiler.core.drift import Drift
from graphwright.compiler.core.errors import GraphwrightWarning, InputError
from graphwright.compiler.importer import import_model
from graphwright.compiler.targets import find_backend
from graphwright.compiler.timing import Comparison
from graphwright.compiler.verify import Verifier
from graphwright.models.catalogue import catalogue, find

torch = pytest.importorskip("torch")


@pytest.fixture(autouse=True)
def quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every race is won, and options are not tried."""
    monkeypatch.setenv("GRAPHWRIGHT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(ort_backend, "choose_options", lambda *args, **kwargs: (DEFAULT, ()))
    monkeypatch.setattr(search, "compare_runners", lambda *args, **kwargs: Comparison(0.5, 1.0, 0.5, 0.45, 0.55, 20))


class Head(torch.nn.Module):  # type: ignore[misc, name-defined]
    """Linear, batch norm, GELU; optional scale; nested results."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(4, 8)
        self.norm = torch.nn.BatchNorm1d(8)

    def forward(self, x: torch.Tensor, *, scale: torch.Tensor | None = None) -> dict[str, object]:
        hidden = torch.nn.functional.gelu(self.norm(self.linear(x)))
        if scale is not None:
            hidden = hidden * scale
        return {"hidden": hidden, "parts": (hidden.sum(-1), [hidden[:, :2], None, 3])}


@pytest.fixture
def head() -> Head:
    torch.manual_seed(0)
    module = Head()
    module.norm.running_mean.uniform_(-1, 1)
    module.norm.running_var.uniform_(0.5, 2)
    return module.eval()


def assert_same(answer: dict[str, object], expected: dict[str, object], kind: type) -> None:
    total, (first, nothing, number) = answer["parts"]  # type: ignore[misc]
    assert nothing is None and number == 3
    for got, wanted in ((answer["hidden"], expected["hidden"]), (total, expected["parts"][0]), (first, expected["parts"][1][0])):  # type: ignore[index]
        assert isinstance(got, kind)
        np.testing.assert_allclose(np.asarray(got), wanted.detach().numpy(), rtol=1e-5, atol=1e-6)  # type: ignore[attr-defined]


def test_the_signatures_are_what_others_rely_on() -> None:
    shown = str(inspect.signature(graphwright.compile))
    assert shown.startswith(
        "(model: 'object', example_inputs: 'object' = None, *, target: 'str' = 'ort-cpu', level: 'Level' = 2, precision: 'str' = 'fp32', "
        "calibration: 'object' = None, metric: 'Metric | None' = None, max_drop: 'float | str | None' = None, output: 'str | Path | None' = None, "
    ), "what came later stands behind"
    further = list(inspect.signature(graphwright.compile).parameters.values())[9:]
    assert all(item.kind is item.KEYWORD_ONLY and item.default is not item.empty for item in further)
    assert list(inspect.signature(graphwright.optimize).parameters) == ["model", "target", "level"]
    assert list(inspect.signature(graphwright.load).parameters) == ["folder"]


def test_a_module_is_compiled_and_called_like_itself(head: Head, tmp_path: Path) -> None:
    x, scale = torch.randn(3, 4), torch.tensor(2.0)
    artifact = graphwright.compile(head, ((x,), {"scale": scale}), output=tmp_path / "out")
    expected = head(x, scale=scale)
    assert_same(artifact(x, scale=scale), expected, torch.Tensor)  # type: ignore[arg-type]
    assert_same(artifact(x.numpy(), scale=np.float32(2)), expected, np.ndarray)  # type: ignore[arg-type]
    assert_same(graphwright.load(tmp_path / "out")(x, scale=scale), expected, torch.Tensor)  # type: ignore[arg-type]
    with pytest.raises(InputError):
        artifact(x)


def test_a_module_from_the_cache_answers_in_the_modules_own_form(head: Head) -> None:
    x = torch.randn(3, 4)
    graphwright.compile(head, (x,))
    again = graphwright.compile(head, (x,))
    assert again.report.cache is not None and again.report.cache.hit
    assert_same(again(x), head(x), torch.Tensor)  # type: ignore[arg-type]


def test_a_retrained_module_is_compiled_anew(head: Head) -> None:
    x = torch.randn(3, 4)
    graphwright.compile(head, (x,))
    with torch.no_grad():
        head.linear.weight.mul_(2)
    again = graphwright.compile(head, (x,))
    assert again.report.cache is not None and not again.report.cache.hit
    assert_same(again(x), head(x), torch.Tensor)  # type: ignore[arg-type]


def test_an_exported_program_is_compiled_too(head: Head) -> None:
    x = torch.randn(3, 4)
    artifact = graphwright.compile(torch.export.export(head, (x,)))
    assert_same(artifact(x), head(x), torch.Tensor)  # type: ignore[arg-type]


def test_an_export_that_computes_something_else_is_told(head: Head, monkeypatch: pytest.MonkeyPatch) -> None:
    import dataclasses

    from graphwright.compiler import driver

    real = driver.import_model

    def wrong(model: object, examples: object) -> object:
        source = real(model, examples)
        return dataclasses.replace(source, expected=tuple(tuple(1.5 * array for array in answer) for answer in source.expected))

    monkeypatch.setattr(driver, "import_model", wrong)
    with pytest.warns(GraphwrightWarning, match="export does not compute what the module computes"):
        report = graphwright.compile(head, (torch.randn(3, 4),)).report
    assert any("export does not compute" in note for note in report.notes)


def test_a_hugging_face_folder_is_compiled(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=50, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, max_position_embeddings=64
    )
    module = transformers.BertModel(config).eval()
    module.save_pretrained(tmp_path / "bert")
    artifact = graphwright.compile(tmp_path / "bert", output=tmp_path / "out")
    ids = np.array([[1, 2, 3, 4]], np.int64)
    feeds = {port.name: ids if port.name == "input_ids" else np.ones_like(ids) * (port.name == "attention_mask") for port in artifact.manifest.inputs}
    with torch.no_grad():
        expected = module(input_ids=torch.tensor(ids)).last_hidden_state.numpy()
    np.testing.assert_allclose(next(iter(artifact.run(feeds).values())), expected, rtol=1e-3, atol=1e-4)
    assert artifact.report.kind == "huggingface"


BLOCKED = ("graphwright", "torch", "onnx", "onnx_ir", "pydantic", "click", "rich")
PROGRAM = f"""
import runpy, sys
sys.modules.update(dict.fromkeys({BLOCKED!r}))
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def run_program(folder: Path, feeds: dict[str, np.ndarray], tmp_path: Path) -> dict[str, np.ndarray]:
    """What the artifact's own program makes of the feeds where nothing but numpy and onnxruntime can be imported."""
    np.savez(tmp_path / "in.npz", **feeds)
    words = [sys.executable, "-c", PROGRAM, str(folder / "run.py"), str(tmp_path / "in.npz"), str(tmp_path / "out.npz")]
    subprocess.run(words, check=True, capture_output=True)
    with np.load(tmp_path / "out.npz") as found:
        return {name: found[name] for name in found.files}


def check_entry(name: str, target: str, tmp_path: Path) -> None:
    """Compile a model of the catalogue on real inputs; on others, artifact, loaded artifact and program must agree with the input model."""
    entry = find(name)
    if reason := entry.unavailable():
        pytest.skip(reason)
    path = entry.file(tmp_path)
    artifact = graphwright.compile(path, list(entry.feeds(2, "calibration")), target=target, output=tmp_path / "out")
    feeds = list(entry.feeds(3, "report"))
    verifier = Verifier(import_model(path).model, feeds, find_backend("onnx"))
    found = verifier.check_runner(artifact.runner, Drift.ROUNDING)
    baseline = verifier.check_runner(find_backend("onnx").baseline(import_model(path).model), Drift.ROUNDING)
    assert not found.broken or baseline.broken, found
    loaded, program = graphwright.load(tmp_path / "out").run(feeds[0]), run_program(tmp_path / "out", feeds[0], tmp_path)
    for name, value in artifact.run(feeds[0]).items():
        np.testing.assert_array_equal(loaded[name], value)
        np.testing.assert_array_equal(program[name], value)
    operators = artifact.report.after.operators
    assert target != "onnx" or artifact.report.shipped == "input" or not [name for name in operators if name.startswith("com.microsoft")]


@pytest.mark.parametrize("target", ["onnx", "ort-cpu"])
@pytest.mark.parametrize("name", ["mnist_cnn", "silero_vad", "kws_dscnn"])
def test_a_real_model_keeps_its_answers(name: str, target: str, tmp_path: Path) -> None:
    check_entry(name, target, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("target", ["onnx", "ort-cpu"])
@pytest.mark.parametrize("name", [entry.name for entry in catalogue()])
def test_every_real_model_keeps_its_answers(name: str, target: str, tmp_path: Path) -> None:
    check_entry(name, target, tmp_path)
