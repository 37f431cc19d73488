"""Compilations are served from the cache only when nothing that counts has changed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

import graphwright
from graphwright.compiler.driver import compile_model, explain_cache
from graphwright.compiler.request import Request

from .driving import X, hit, parse, reference

pytestmark = pytest.mark.usefixtures("own_cache", "decide")


def save(proto: onnx.ModelProto, path: Path) -> Path:
    (path.parent / "weights.bin").unlink(missing_ok=True)
    for tensor in proto.graph.initializer:
        tensor.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor), tensor.name))
    onnx.save(proto, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    return path


def retrained() -> onnx.ModelProto:
    proto = parse()
    for tensor in proto.graph.initializer:
        if tensor.name == "w":
            values = onnx.numpy_helper.to_array(tensor) + 1
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, "w"))
    return proto


def test_the_second_compilation_comes_from_the_cache_and_answers_alike(tmp_path: Path) -> None:
    first = graphwright.compile(parse(), X)
    second = graphwright.compile(parse(), X, output=tmp_path / "out")
    assert (first.report.cache.hit, second.report.cache.hit) == (False, True)  # type: ignore[union-attr]
    assert second.report.verdict == first.report.verdict
    np.testing.assert_array_equal(first(X), second(X))
    np.testing.assert_array_equal(graphwright.load(tmp_path / "out")(X), first(X))


def test_a_model_retrained_into_the_same_file_is_not_served_stale(tmp_path: Path) -> None:
    path = save(parse(), tmp_path / "model.onnx")
    graph = path.read_bytes()
    assert not hit(path)
    assert hit(path)
    save(retrained(), path)
    assert path.read_bytes() == graph, "only the external data changes"
    explanation = explain_cache(path, X, Request())
    assert not explanation.hit and explanation.differs == ("weights",)
    artifact = compile_model(path, X, Request())
    assert not artifact.report.cache.hit  # type: ignore[union-attr]
    np.testing.assert_allclose(artifact(X), reference(retrained(), x=X)[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("changed", "component"),
    [
        ({"level": 1}, "recipe"),
        ({"target": "onnx"}, "target"),
        ({"seed": 5}, "options"),
        ({"precision": "fp32", "seed": 7}, "options"),
        ({"calibration": [{"x": X + 1}]}, "inputs"),
    ],
)
def test_another_request_is_not_served_by_the_old_answer(changed: dict[str, object], component: str) -> None:
    assert not hit(parse())
    assert component in explain_cache(parse(), X, Request(**changed)).differs  # type: ignore[arg-type]
    assert not hit(parse(), **changed)


def test_a_changed_pass_is_not_served_by_the_old_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not hit(parse())
    monkeypatch.setattr("graphwright.compiler.fingerprint.hash_sources", lambda: "other sources")
    assert explain_cache(parse(), X, Request()).differs == ("passes",)
    assert not hit(parse())


def test_a_broken_cache_entry_is_made_again(own_cache: Path) -> None:
    assert not hit(parse())
    (model,) = own_cache.glob("*/artifact/model.onnx")
    model.write_bytes(model.read_bytes()[:-1] + b"?")
    assert not hit(parse())
    assert hit(parse())


def test_without_the_cache_nothing_is_kept(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not hit(parse(), cache=False)
    monkeypatch.setenv("GRAPHWRIGHT_CACHE", "off")
    assert not hit(parse())
    assert not list(own_cache.glob("*/artifact"))


def test_other_sizes_are_another_compilation() -> None:
    assert not hit(parse(), None, dims={"batch": 5})
    assert not hit(parse(), None, dims={"batch": 6})
    assert hit(parse(), None, dims={"batch": 5})
