"""What a device gets runs there, and says the same as here."""

import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from graphwright.backends.ort import package
from graphwright.backends.ort.backend import OrtBackend
from graphwright.backends.ort.files import write_model
from graphwright.backends.ort.options import Options, read_options
from graphwright.backends.ort.run_template import program
from graphwright.backends.ort.segments import SegmentedRunner
from graphwright.backends.ort.session import open_file
from graphwright.compiler.core.backend import Built
from graphwright.compiler.core.errors import ArtifactError
from graphwright.compiler.core.shapes import settle_shapes

CONV = "g (float[N,3,8,8] x, float[16,3,3,3] w, float[16] b) => (float[N,16,8,8] y, int64[4] s) { c = Conv<pads=[1,1,1,1]>(x, w, b) y = Relu(c) s = Shape(y) }"


def conv(model):
    noise = np.random.default_rng(0)
    return model(CONV, w=noise.standard_normal((16, 3, 3, 3)).astype(np.float32), b=noise.standard_normal(16).astype(np.float32))


def image():
    return {"x": np.random.default_rng(1).standard_normal((2, 3, 8, 8)).astype(np.float32)}


@pytest.fixture
def built(model):
    made = OrtBackend().build(conv(model), [], lambda text: None)
    made.samples = (image(),)
    return made


def test_everything_a_device_needs_is_written(built, tmp_path):
    files = OrtBackend().package(built, tmp_path)
    assert sorted(path.name for path in files) == ["model.onnx", "model.ort", "required_operators.config", "run.py"]
    assert sorted(tmp_path.iterdir()) == sorted(files)
    assert built.notes == ()


def test_the_package_computes_what_was_built(built, tmp_path):
    OrtBackend().package(built, tmp_path)
    loaded = OrtBackend().load(tmp_path, built.options)
    expected, got = built.runner.run(image()), loaded.run(image())
    assert {name: value.tobytes() for name, value in got.items()} == {name: value.tobytes() for name, value in expected.items()}


def test_the_ort_model_is_for_any_cpu(built, tmp_path):
    OrtBackend().package(built, tmp_path)
    lines = (tmp_path / "required_operators.config").read_text().splitlines()
    assert lines[0] == "# Operators of model.ort: domain;opset;names"
    assert "com.microsoft;1;FusedConv" in lines
    assert not any("nchwc" in line or str(tmp_path) in line for line in lines)
    expected, got = built.runner.run(image()), open_file(tmp_path / "model.ort").run(image())
    np.testing.assert_allclose(got["y"], expected["y"], rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(got["s"], expected["s"])


def test_packaging_leaves_logging_and_the_module_path_alone(built, tmp_path, capfd):
    root = logging.getLogger()
    before = root.handlers[:], sys.path[:]
    OrtBackend().package(built, tmp_path)
    assert (root.handlers, sys.path) == before
    assert capfd.readouterr() == ("", "")


def test_an_ort_model_that_says_something_else_is_not_shipped(built, tmp_path, monkeypatch):
    monkeypatch.setattr(package, "same_bits", lambda one, other: False)
    files = OrtBackend().package(built, tmp_path)
    assert sorted(path.name for path in files) == ["model.onnx", "run.py"]
    assert sorted(tmp_path.iterdir()) == sorted(files)
    assert built.notes == ("no model.ort: its output 'y' is not the same as model.onnx's",)


def test_a_model_too_large_for_an_ort_file_goes_without(built, tmp_path, monkeypatch):
    monkeypatch.setattr(package, "LARGEST_ORT", 10)
    assert sorted(path.name for path in OrtBackend().package(built, tmp_path)) == ["model.onnx", "run.py"]
    assert "would have to be held in memory" in built.notes[0]


def test_a_model_file_already_there_is_taken_as_it_is(built, tmp_path):
    write_model(built.model, tmp_path)
    before = (tmp_path / "model.onnx").stat().st_mtime_ns
    files = OrtBackend().package(built, tmp_path)
    assert (tmp_path / "model.onnx").stat().st_mtime_ns == before
    assert tmp_path / "model.onnx" in files


def run_program(folder, *arguments):
    return subprocess.run([sys.executable, "-I", str(folder / "run.py"), *map(str, arguments)], capture_output=True, text=True, check=False, cwd="/")


def test_the_program_runs_on_given_inputs_and_gives_the_same(built, tmp_path):
    OrtBackend().package(built, tmp_path)
    np.savez(tmp_path / "in.npz", **image())
    done = run_program(tmp_path, tmp_path / "in.npz", tmp_path / "out.npz")
    assert (done.returncode, done.stderr) == (0, "")
    expected = built.runner.run(image())
    with np.load(tmp_path / "out.npz") as outputs:
        assert {name: outputs[name].tobytes() for name in outputs} == {name: value.tobytes() for name, value in expected.items()}


def test_the_program_runs_without_inputs_and_prints_outputs(built, tmp_path):
    OrtBackend().package(built, tmp_path)
    done = run_program(tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "y float32 (1, 16, 8, 8)" in done.stdout
    assert "s int64 (4,)" in done.stdout


def test_the_program_needs_only_numpy_and_the_runtime(built, tmp_path):
    text = program(Options(level="extended", threads=2, arena=False, prepacking=False, without=("SkipLayerNormFusion",)))
    imported = [line for line in text.splitlines() if line.startswith(("import", "from"))]
    assert imported == ["import sys, pathlib, numpy as np, onnxruntime as ort"]
    for setting in (
        "options.add_session_config_entry('session.force_spinning_stop', '1')",
        "options.add_session_config_entry('session.disable_prepacking', '1')",
        "options.add_session_config_entry('optimization.disable_specified_optimizers', 'SkipLayerNormFusion')",
        "options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED",
        "options.intra_op_num_threads = 2",
        "options.enable_cpu_mem_arena = False",
    ):
        assert setting in text.splitlines()
    OrtBackend().package(built, tmp_path)
    (tmp_path / "run.py").write_text(text)
    assert run_program(tmp_path).returncode == 0


@pytest.mark.parametrize("dtype", ["float16", "double", "int8", "uint64", "bool", "string"])
def test_the_program_makes_inputs_of_any_dtype(model, tmp_path, dtype):
    OrtBackend().package(Built(model(f"g ({dtype}[N,2] x) => ({dtype}[N,2] y) {{ y = Identity(x) }}"), None, Options().to_dict()), tmp_path)
    done = run_program(tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "(1, 2)" in done.stdout


def test_large_weights_lie_beside_the_model_aligned(model, tmp_path):
    w, v = (np.random.default_rng(seed).standard_normal((17, 33)).astype(np.float32) for seed in (0, 1))
    (tmp_path / "source.bin").write_bytes(b"abc" + v.tobytes())
    outside = ir.ExternalTensor("source.bin", 3, v.nbytes, ir.DataType.FLOAT, shape=ir.Shape(v.shape), name="v", base_dir=tmp_path)
    made = model("g (float[17,33] x, float[17,33] w, float[17,33] v) => (float[17,33] y) { z = Add(x, w) y = Add(z, v) }", w=w, v=outside)
    (tmp_path / "out").mkdir()
    files = write_model(made, tmp_path / "out", inline_bytes=1)
    assert [path.name for path in files] == ["model.onnx", "model.onnx.data"]
    proto = onnx.load(files[0], load_external_data=False)
    entries = [{entry.key: entry.value for entry in tensor.external_data} for tensor in proto.graph.initializer]
    assert all(entry["location"] == "model.onnx.data" and int(entry["offset"]) % 64 == 0 for entry in entries)
    x = np.zeros((17, 33), np.float32)
    np.testing.assert_array_equal(open_file(files[0]).run({"x": x})["y"], w + v)
    assert isinstance(made.graph.initializers["v"].const_value, ir.ExternalTensor)
    assert made.graph.initializers["v"].const_value.location == "source.bin"


def test_small_models_are_one_file_even_when_their_weights_were_outside(model, tmp_path):
    w = np.ones((17, 33), np.float32)
    (tmp_path / "source.bin").write_bytes(w.tobytes())
    outside = ir.ExternalTensor("source.bin", 0, w.nbytes, ir.DataType.FLOAT, shape=ir.Shape(w.shape), name="w", base_dir=tmp_path)
    made = model("g (float[17,33] x, float[17,33] w) => (float[17,33] y) { y = Add(x, w) }", w=outside)
    (tmp_path / "out").mkdir()
    assert [path.name for path in write_model(made, tmp_path / "out")] == ["model.onnx"]
    np.testing.assert_array_equal(open_file(tmp_path / "out" / "model.onnx").run({"x": w})["y"], w + w)


def test_a_folder_that_cannot_be_written_is_one_sentence(built, tmp_path):
    with pytest.raises(ArtifactError, match="cannot be written to .*nowhere"):
        OrtBackend().package(built, tmp_path / "nowhere")


def test_a_full_disk_is_one_sentence(built):
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    with pytest.raises(ArtifactError, match="No space left"):
        package.write_text(Path("/dev/full"), "text")


def test_loading_an_empty_folder_says_what_is_missing(tmp_path):
    with pytest.raises(ArtifactError, match="there is no model.onnx"):
        OrtBackend().load(tmp_path, {})


def test_a_built_model_keeps_its_options_and_trials(model):
    built = OrtBackend().build(conv(model), [image()], lambda text: None)
    assert set(built.runner.run(image())) == {"y", "s"}
    assert read_options(built.options).to_dict() == built.options
    assert {"changed", "chosen"} <= set(built.trials[0])


def test_a_model_too_large_for_one_session_keeps_the_defaults(model):
    backend = OrtBackend(whole_bytes=10)
    built = backend.build(conv(model), [image()], lambda text: None)
    assert built.options == Options().to_dict()
    assert "runs in segments" in built.trials[0]["skipped"]
    for runner in (built.runner, backend.reference(built.model), backend.baseline(built.model)):
        assert isinstance(runner, SegmentedRunner)


QUANTISED = """g (float[N,3] x, uint8[4,3] w, float s, uint8 z, bool c) => (float[N,4] y) {
    q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z) e = DequantizeLinear(w, s, z) t = Transpose<perm=[1,0]>(e)
    p = MatMul(d, t) y = If(c)<then_branch = a () => (float[N,4] m) { i = QuantizeLinear(p, s, z) m = DequantizeLinear(i, s, z) },
    else_branch = b () => (float[N,4] n) { n = Relu(p) }> }"""


def test_a_file_does_not_say_the_types_that_everybody_sees(model, tmp_path):
    made = model(QUANTISED, w=np.zeros((4, 3), np.uint8), s=np.array(0.1, np.float32), z=np.array(3, np.uint8))
    settle_shapes(made)
    write_model(made, tmp_path)
    graph = onnx.load(tmp_path / "model.onnx").graph
    branches = [attribute.g for node in graph.node for attribute in node.attribute if node.op_type == "If"]
    told = {info.name for part in (graph, *branches) for info in part.value_info}
    assert "t" in told
    assert told <= {"t", "p"}
