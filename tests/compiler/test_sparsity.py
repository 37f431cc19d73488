"""--sparsity: from an option to an artifact that is smaller on disk, computes what it did, and says that size is all there is to it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

import graphwright
from graphwright.compiler.core.errors import NoChangeError, UsageError
from graphwright.compiler.driver import compile_model
from graphwright.compiler.report_table import describe_reduction
from graphwright.compiler.request import Request

WIDE = """<ir_version: 8, opset_import: ["" : 17]>
m (float[N, 96] x) => (float[N, 40] logits) {
    a = MatMul(x, A)
    b = Relu(a)
    c = MatMul(b, B)
    d = Relu(c)
    logits = MatMul(d, C) }"""


def wide(seed: int = 0) -> onnx.ModelProto:
    random = np.random.default_rng(seed)
    proto = onnx.parser.parse_model(WIDE)
    for name, shape in (("A", (96, 160)), ("B", (160, 128)), ("C", (128, 40))):
        proto.graph.initializer.append(onnx.numpy_helper.from_array((random.normal(size=shape) / shape[0] ** 0.5).astype(np.float32), name))
    return proto


def rows(seed: int) -> dict[str, np.ndarray]:
    return {"x": np.random.default_rng(seed).normal(size=(8, 96)).astype(np.float32)}


def folder_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir() if path.name.startswith("model.onnx"))


@pytest.mark.parametrize("amount", ["0.7", "2:4"])
@pytest.mark.parametrize("target", ["onnx", "ort-cpu"])
def test_the_file_is_smaller_and_the_artifact_reloads(tmp_path: Path, amount: str, target: str) -> None:
    data = [rows(seed) for seed in range(4)]
    plain = tmp_path / "plain.onnx"
    onnx.save(wide(), plain)
    request = Request(target=target, sparsity=amount, calibration=data, cache=False, output=tmp_path / "out")
    with compile_model(str(plain), data, request) as artifact:
        assert artifact.report.compression is not None
        forms = {place.form for place in artifact.report.compression.places if place.form}
        assert all("size only" in form for form in forms)
        assert forms
        told = describe_reduction(artifact.report.reduction)
        assert "+0.0%" not in told
        assert f"0.0% -> {50 if amount == '2:4' else 70}.0% of the parameters are zero" in told
        assert "MiB of weights in the file (-" in told
        expected = artifact.run(data[0])["logits"]
    left = 0.5 if amount == "2:4" else 0.3
    assert folder_bytes(tmp_path / "out") < (left + 0.12) * plain.stat().st_size
    with graphwright.load(tmp_path / "out") as again:
        np.testing.assert_array_equal(again.run(data[0])["logits"], expected)


def test_sparsity_and_integers_go_together(tmp_path: Path) -> None:
    data = [rows(seed) for seed in range(4)]
    sizes = {}
    for name, sparsity in (("dense", None), ("sparse", "0.8")):
        request = Request(target="onnx", precision="int8", size=True, sparsity=sparsity, calibration=data, cache=False, output=tmp_path / name)
        compile_model(wide(), data, request).close()
        sizes[name] = folder_bytes(tmp_path / name)
    assert sizes["sparse"] < 0.75 * sizes["dense"]


def test_no_part_of_the_weights_is_refused_with_the_option() -> None:
    with pytest.raises(UsageError, match="no part of the weights"):
        compile_model(wide(), [rows(0)], Request(target="onnx", sparsity="4:2", cache=False))


def test_a_model_without_weights_to_prune_is_refused() -> None:
    text = '<ir_version: 8, opset_import: ["" : 17]>\nm (float[N, 4] x) => (float[N, 4] y) {\n y = Relu(x) }'
    with pytest.raises(NoChangeError, match="nothing"):
        compile_model(onnx.parser.parse_model(text), [{"x": np.ones((2, 4), np.float32)}], Request(target="onnx", sparsity="0.5", cache=False))
