"""Parts that TVM really runs: the same numbers here, from the folder, and from run.py, which knows nothing of us."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from graphwright.backends.ort.backend import OrtBackend
from graphwright.compiler.core.backend import Sample
from graphwright.compiler.core.drift import ROUNDING
from graphwright.compiler.partition.cpu import CpuBackend
from graphwright.compiler.partition.package import BuiltParts
from graphwright.compiler.samples import generate
from graphwright.compiler.verify import Verifier
from graphwright.tests.compiler.partition.runtimes import Usual

tvm = pytest.importorskip("tvm")

FIND = """
<ir_version: 9, opset_import: ["" : 18, "com.microsoft" : 1]>
g (float[N,3,8,8] x, float[6,3,3,3] w, float[6] b) => (float[N,6] y, int64[4,M] where)
<int64[2] axes = {2, 3}>
{
    c = com.microsoft.FusedConv<activation="Relu", pads=[1,1,1,1]>(x, w, b)
    t = Tanh(c)
    where = NonZero(t)
    s = Softmax<axis=1>(t)
    y = ReduceMean<keepdims=0>(s, axes)
}
"""
LOOP = """
<ir_version: 9, opset_import: ["" : 18]>
g (float[2,8] x, int64 rounds) => (float[2,8] y, seq(float[2,8]) q)
<float[8] v = {1, 2, 3, 4, 5, 6, 7, 8}>
{
    a = Tanh(x)
    l = Loop(rounds, , a) <body = step (int64 i, bool k, float[2,8] h) => (bool k2, float[2,8] h2) { k2 = Identity(k)  h2 = Add(h, a) }>
    m = Mul(l, v)
    t = Tanh(m)
    q = SequenceConstruct(a, t)
    y = Tanh(t)
}
"""


def find_model() -> tuple[ir.Model, Sample]:
    """Random weights in place of the inputs that stand for them in the text."""
    rng = np.random.default_rng(1)
    model = ir.from_proto(onnx.parser.parse_model(FIND))
    for value in list(model.graph.inputs)[1:]:
        model.graph.inputs.remove(value)
        value.const_value = ir.tensor(rng.standard_normal(value.shape.numpy()).astype(np.float32), name=value.name)
        model.graph.register_initializer(value)
    return model, {"x": rng.standard_normal((1, 3, 8, 8)).astype(np.float32)}


def loop_model() -> tuple[ir.Model, Sample]:
    return ir.from_proto(onnx.parser.parse_model(LOOP)), {"x": np.random.default_rng(2).standard_normal((2, 8)).astype(np.float32), "rounds": np.array(3)}


@pytest.fixture(scope="module", params=[find_model, loop_model])
def compiled(request: pytest.FixtureRequest) -> Iterator[tuple[ir.Model, Sample, CpuBackend, BuiltParts]]:
    """A model with everything that waits under ONNX Runtime given to TVM."""
    from graphwright.backends.tvm.backend import TvmBackend

    class Without(TvmBackend):
        """TVM that does not take NonZero."""

        def refusal(self, node: ir.Node) -> str | None:
            return "no NonZero" if node.op_type == "NonZero" else super().refusal(node)

    model, sample = request.param()
    backend = CpuBackend(Usual("Tanh", "Softmax"), Without, search_s=0.0, each_s=0.05, race_s=0.1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRAPHWRIGHT_CACHE", "off")
        built = backend.build(model, (sample,), lambda _: None)
    assert isinstance(built, BuiltParts), (built.rivals, built.remarks)
    assert {part.place for part, _ in built.parts} == {"ort-cpu", "tvm-cpu"}
    yield model, sample, backend, built
    built.runner.close()


def test_a_mixed_model_computes_what_it_did_within_contract(compiled: tuple[ir.Model, Sample, CpuBackend, BuiltParts], tmp_path: Path) -> None:
    model, sample, backend, built = compiled
    reference = OrtBackend().reference(model)
    verifier = Verifier(model, generate(model, (sample,), 0, reference.run, limit=8), OrtBackend())
    found = verifier.check_runner(built.runner, ROUNDING)
    assert not found.broken, found
    backend.package(built, tmp_path)
    found = verifier.check_runner(backend.load(tmp_path, built.options), ROUNDING)
    assert not found.broken, found


def test_its_program_needs_nothing_of_ours(compiled: tuple[ir.Model, Sample, CpuBackend, BuiltParts], tmp_path: Path) -> None:
    model, sample, backend, built = compiled
    if any("seq" in port.dtype for port in built.runner.outputs):
        pytest.skip("an .npz file holds no sequences")
    (tmp_path / "out").mkdir()
    backend.package(built, tmp_path / "out")
    away = Path(shutil.move(tmp_path / "out", tmp_path / "device"))
    for rows in (1, 4):
        feeds = {"x": np.random.default_rng(rows).standard_normal((rows, 3, 8, 8)).astype(np.float32)}
        np.savez(tmp_path / "in.npz", **feeds)
        subprocess.run([sys.executable, "-I", away / "run.py", tmp_path / "in.npz", tmp_path / f"{rows}.npz"], check=True)
        expected = OrtBackend().reference(model).run(feeds)
        with np.load(tmp_path / f"{rows}.npz") as file:
            found = dict(file)
        assert set(found) == set(expected)
        np.testing.assert_allclose(found["y"], expected["y"], rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(found["where"], expected["where"])
    assert "graphwright" not in (away / "run.py").read_text()
