"""A mixed precision keeps what it was given, and spends it where it helps most."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest

from graphwright.backends.ort import backend as ort_backend
from graphwright.backends.ort.options import DEFAULT
from graphwright.compiler import kernel_choice, mixture, search
from graphwright.compiler.artifact import Artifact
from graphwright.compiler.core.errors import BudgetError, NoChangeError
from graphwright.compiler.driver import compile_model
from graphwright.compiler.request import Request
from graphwright.compiler.timing import Comparison

WIDTH = 128


@pytest.fixture(autouse=True)
def quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No cache, races that are won, and two ways instead of seven."""
    won = SimpleNamespace(to_dict=lambda: {"changed": {"threads": 1}, "chosen": True, "failure": ""})
    monkeypatch.setenv("GRAPHWRIGHT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(ort_backend, "choose_options", lambda *args, **kwargs: (DEFAULT, (won,)))
    for module in (kernel_choice, search):
        monkeypatch.setattr(module, "compare_runners", lambda *_, **__: Comparison(0.5, 1.0, 0.5, 0.45, 0.55, 20))
    monkeypatch.setattr(mixture, "WIDTHS", ((4, 32), (8, 32)))
    yield


def planted(seed: int = 0) -> onnx.ModelProto:
    """Four products in a row, of which the second has one input channel 60 times as loud as the others: it minds few bits."""
    rng = np.random.default_rng(seed)
    weights, nodes, value = [], [], "x"
    for place in range(4):
        weight = (rng.standard_normal((WIDTH, WIDTH)) / WIDTH**0.5).astype(np.float32)
        if place == 1:
            weight[::32] *= 60
        weights.append(onnx.numpy_helper.from_array(weight, f"w{place}"))
        nodes.append(onnx.helper.make_node("MatMul", [value, f"w{place}"], [f"h{place}"]))
        nodes.append(onnx.helper.make_node("Tanh", [f"h{place}"], [f"t{place}"]))
        value = f"t{place}"
    ports = [onnx.helper.make_tensor_value_info(name, 1, ["batch", 4, WIDTH]) for name in ("x", value)]
    graph = onnx.helper.make_graph(nodes, "planted", ports[:1], ports[1:], weights)
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 21)], ir_version=10)


X = np.random.default_rng(1).standard_normal((8, 4, WIDTH)).astype(np.float32)


def mixed(**options: object) -> Artifact:
    return compile_model(planted(), X, Request(precision="mixed", **options))  # type: ignore[arg-type]


def forms(artifact: Artifact) -> dict[str, str]:
    found = artifact.report.compression
    assert found is not None
    return {place.name: place.form for place in found.places}


def noise(artifact: Artifact) -> float:
    return artifact.report.divergence[0].relative_error ** 2


def test_a_size_is_kept_and_spent_on_the_site_that_minds_most() -> None:
    artifact = mixed(allowance="size=0.2")
    found = forms(artifact)
    assert sorted(found.values()) == ["int4", "int4", "int4", "int8"]
    compression = artifact.report.compression
    assert compression is not None and compression.size <= 0.2
    measured = {place.name: place.sensitivity for place in compression.places}
    assert all(value is not None for value in measured.values())
    assert "quantize-weights{only=" in artifact.report.recipe and "quantize-weights{bits=8,only=" in artifact.report.recipe


def test_mixed_makes_less_noise_than_any_other_site_in_eight_bits() -> None:
    chosen = mixed(allowance="size=0.2")
    (fine,) = [name for name, form in forms(chosen).items() if form == "int8"]
    others = [name for name in forms(chosen) if name != fine]
    for other in others:
        rest = "+".join(name for name in forms(chosen) if name != other)
        level = f"inline-functions,quantize-weights{{only={rest}}},quantize-weights{{bits=8,only={other}}},settle-opset"
        assert noise(chosen) < noise(compile_model(planted(), X, Request(level=level, size=True)))


def test_a_drop_takes_as_few_bytes_as_it_allows() -> None:
    loose, tight = mixed(allowance="drop=0.01"), mixed(max_drop=0.0005)
    for artifact, allowed in ((loose, 0.01), (tight, 0.0005)):
        accuracy = artifact.report.accuracy
        assert accuracy is not None and accuracy.drop <= allowed == accuracy.allowed
    one, other = loose.report.compression, tight.report.compression
    assert one is not None and other is not None and one.size < other.size


def test_what_cannot_be_kept_is_an_error_that_says_by_how_much(tmp_path: Path) -> None:
    with pytest.raises(BudgetError, match=r"size=0.05 cannot be kept: with the least for every site the model is still 0.0\d+ MiB too large"):
        mixed(allowance="size=0.05", output=tmp_path / "out")
    with pytest.raises((BudgetError, NoChangeError), match="no mixture of widths keeps the largest drop"):
        mixed(allowance="drop=0", output=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_model_without_sites_has_nothing_to_mix() -> None:
    relu = onnx.parser.parse_model('<ir_version: 10, opset_import: ["" : 21]> g (float[batch, 16] x) => (float[batch, 16] y) { y = Relu(x) }')
    with pytest.raises(NoChangeError, match="none of the sites can be compressed in any width"):
        compile_model(relu, np.ones((2, 16), np.float32), Request(precision="mixed", allowance="size=0.5"))


def test_a_latency_is_bought_with_the_ways_that_save_time(monkeypatch: pytest.MonkeyPatch) -> None:
    def compare(a: object, b: object, *_: object, **__: object) -> Comparison:
        return Comparison(0.9, 1.0, 0.9, 0.89, 0.91, 20)

    monkeypatch.setattr(mixture, "compare_runners", compare)
    found = forms(mixed(allowance="latency=0.85"))
    assert 1 <= sum(bool(form) for form in found.values()) < 4
    with pytest.raises(BudgetError, match="latency=0.1 cannot be kept: with the least for every site the model is still .* ms too slow"):
        mixed(allowance="latency=0.1")


def test_when_time_is_short_a_width_follows_from_another(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    measure = mixture.measure_sites

    def counted(names: list[str], *rest: object) -> object:
        calls.extend(names)
        return measure(names, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(mixture, "measure_sites", counted)
    monkeypatch.setattr(mixture, "MEASURED_SECONDS", -1.0)
    assert sorted(forms(mixed(allowance="size=0.2")).values()) == ["int4", "int4", "int4", "int8"]
    assert len(calls) == 4
