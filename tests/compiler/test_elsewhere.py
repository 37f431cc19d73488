"""Devices that are not here: sizes are fixed first, answers are checked, and nothing is timed."""

import json
import os
import shutil
import subprocess

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest

import graphwright
from graphwright.compiler.core.errors import ContractError, UsageError
from graphwright.compiler.core.target import Target
from graphwright.compiler.driver import compile_model
from graphwright.compiler.elsewhere import with_fixed_sizes
from graphwright.compiler.importer import import_model
from graphwright.compiler.request import Request

FAR = Target("far", "tvm", "aarch64", is_here=False, open_sizes=False)
NET = """<ir_version: 10, opset_import: ["" : 21]>
g (float[batch,3,side,side] x, float[8,3,3,3] w, float[8] b) => (float[batch,8] y, int64[batch] k) {
    c = Conv<pads=[1,1,1,1]>(x, w, b) r = Relu(c) p = GlobalAveragePool(r) s = Shape<start=0, end=1>(x) m = Constant<value_ints=[-1]>()
    t = Concat<axis=0>(s, m) y = Reshape(p, t) k = ArgMax<axis=1, keepdims=0>(y)
}"""


def network():
    model = ir.from_onnx_text(NET)
    noise = np.random.default_rng(0)
    for name, shape in (("w", (8, 3, 3, 3)), ("b", (8,))):
        value = next(value for value in model.graph.inputs if value.name == name)
        model.graph.inputs.remove(value)
        value.const_value = ir.tensor(noise.standard_normal(shape).astype(np.float32), name=name)
        model.graph.register_initializer(value)
    return model


def shapes(source):
    return [list(value.shape) for value in (*source.model.graph.inputs, *source.model.graph.outputs)]


def test_sizes_asked_for_are_fixed_everywhere():
    source, request = with_fixed_sizes(import_model(network()), Request(dims={"batch": 2, "side": 16}), FAR)
    assert shapes(source) == [[2, 3, 16, 16], [2, 8], [2]]
    assert request.dims == {}


def test_sizes_of_example_inputs_are_fixed_everywhere():
    source, _ = with_fixed_sizes(import_model(network(), {"x": np.ones((1, 3, 8, 8), np.float32)}), Request(), FAR)
    assert shapes(source) == [[1, 3, 8, 8], [1, 8], [1]]


def test_sizes_left_open_are_named():
    with pytest.raises(UsageError, match="--dim side=SIZE, or give example inputs"):
        with_fixed_sizes(import_model(network()), Request(dims={"batch": 1}), FAR)
    with pytest.raises(UsageError, match="no dimension 'length'; they have: batch, side"):
        with_fixed_sizes(import_model(network()), Request(dims={"length": 1}), FAR)


def test_a_device_that_takes_open_sizes_gets_the_model_as_it_is():
    source, request = import_model(network()), Request(dims={"batch": 1})
    assert with_fixed_sizes(source, request, Target("near", "ort")) == (source, request)


def aarch64():
    pytest.importorskip("tvm")
    from graphwright.backends.tvm.edge.toolchain import AARCH64

    if shutil.which(AARCH64.compiler) is None or AARCH64.find_emulator() is None:
        pytest.skip(f"needs {AARCH64.compiler} and {AARCH64.emulator}")
    return AARCH64


@pytest.fixture(scope="module")
def artifact(tmp_path_factory):
    """The network compiled for aarch64, as a folder."""
    aarch64()
    folder = tmp_path_factory.mktemp("aarch64") / "out"
    request = Request(target="tvm-aarch64:cortex-a53,+neon,+crc", dims={"batch": 1, "side": 16}, output=folder, cache=False)
    compile_model(network(), None, request).close()
    return folder


def expected(x):
    session = ort.InferenceSession(ir.to_proto(network()).SerializeToString())
    return dict(zip(("y", "k"), session.run(None, {"x": x}), strict=True))


def test_an_artifact_for_aarch64_computes_the_model(artifact):
    x = np.random.default_rng(1).standard_normal((1, 3, 16, 16)).astype(np.float32)
    with graphwright.load(artifact) as loaded:
        got = loaded.run({"x": x})
    np.testing.assert_allclose(got["y"], expected(x)["y"], rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(got["k"], expected(x)["k"])


def test_its_program_runs_on_the_device(artifact, tmp_path):
    x = np.random.default_rng(2).standard_normal((1, 3, 16, 16)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    command = [*aarch64().find_emulator(), str(artifact / "run"), "-o", str(tmp_path), str(tmp_path / "x.npy")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "latency" in done.stdout
    np.testing.assert_allclose(np.load(tmp_path / "0.npy"), expected(x)["y"], rtol=1e-4, atol=1e-6)


def test_a_copy_of_the_artifact_can_still_be_run(artifact, tmp_path):
    with graphwright.load(artifact) as loaded:
        loaded.save(tmp_path / "copy")
    assert os.access(tmp_path / "copy" / "run", os.X_OK)


def test_the_report_says_how_it_was_checked_and_that_nothing_was_timed(artifact):
    report = json.loads((artifact / "report.json").read_text())
    assert report["latency"] is None
    assert report["trials"] == []
    assert report["verdict"] == "What was made for the device ships; the device is not here, so nothing was timed."
    assert any("aarch64 library's own, under qemu-aarch64" in note for note in report["notes"])
    assert any("glibc" in note and "nothing of TVM" in note for note in report["notes"])
    manifest = json.loads((artifact / "manifest.json").read_text())
    assert (manifest["options"]["mcpu"], manifest["options"]["mattr"]) == ("cortex-a53", "+neon,+crc")
    assert {"model.so", "run", "run.c", "graphwright.h", "run.py", "model.json"} <= set(manifest["files"])


def test_wrong_answers_of_a_device_are_refused(monkeypatch, tmp_path):
    aarch64()
    from graphwright.backends.tvm.edge.session import ProgramRunner

    right = ProgramRunner.run

    def wrong(self, feeds):
        return {name: value + 1 for name, value in right(self, feeds).items()}

    monkeypatch.setattr(ProgramRunner, "run", wrong)
    with pytest.raises(ContractError, match="does not answer as the input does"):
        compile_model(network(), None, Request(target="tvm-aarch64", dims={"batch": 1, "side": 8}, output=tmp_path / "out", cache=False))
    assert not (tmp_path / "out").exists()
