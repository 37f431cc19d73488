"""A model compiled by TVM runs from its folder with TVM's runtime alone, and its weights lie in one file."""

import json
import subprocess
import sys

import numpy as np
import pytest

from graphwright.backends.ort.backend import OrtBackend
from graphwright.backends.tvm import package
from graphwright.backends.tvm.files import WEIGHTS, open_weights, read_signature
from graphwright.backends.tvm.weights import lift_weights
from graphwright.compiler.core.backend import Port
from graphwright.compiler.core.errors import ArtifactError, BackendMissing

tvm = pytest.importorskip("tvm")

NET = """g (float[1,3,16,16] x, bool[10] m, float[16,3,3,3] w, float[16] b, float16[1024,10] v) => (float[1,10] y, int64[1] k, bool[1,10] p) {
    c = Conv<pads=[1,1,1,1]>(x, w, b) r = Relu(c) q = MaxPool<kernel_shape=[2,2],strides=[2,2]>(r) f = Flatten(q)
    u = Cast<to=1>(v) t = MatMul(f, u) z = Softmax(t) y = Where(m, z, t) k = ArgMax<axis=1,keepdims=0>(t) p = Greater(z, y)
}"""
INPUTS = (Port("x", "tensor(float)", (1, 3, 16, 16)), Port("m", "tensor(bool)", (10,)))
OUTPUTS = (Port("y", "tensor(float)", (1, 10)), Port("k", "tensor(int64)", (1,)), Port("p", "tensor(bool)", (1, 10)))


def network(model):
    noise = np.random.default_rng(0)
    w, b, v = noise.standard_normal((16, 3, 3, 3)), noise.standard_normal(16), noise.standard_normal((1024, 10))
    return model(NET, w=w.astype(np.float32), b=b.astype(np.float32), v=(v / 30).astype(np.float16))


def feeds():
    noise = np.random.default_rng(1)
    return {"x": noise.standard_normal((1, 3, 16, 16)).astype(np.float32), "m": noise.random(10) < 0.5}


def lowered(model):
    """A model through TVM's own importer and pipeline."""
    import onnx_ir as ir
    from tvm import relax
    from tvm.relax.frontend.onnx import from_onnx

    target = tvm.target.Target("llvm")
    with target:
        return relax.get_default_pipeline(target)(from_onnx(ir.to_proto(model), keep_params_in_input=False)), target


@pytest.fixture
def packed(model, tmp_path):
    from tvm import relax

    module, target = lowered(network(model))
    module, weights = lift_weights(module)
    files, notes = package.write_package(relax.build(module, target, relax_pipeline=None), weights, INPUTS, OUTPUTS, tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted(files)
    assert notes == (package.runtime_needed(),)
    return tmp_path


def run_program(folder, *arguments):
    return subprocess.run([sys.executable, "-I", str(folder / "run.py"), *map(str, arguments)], capture_output=True, text=True, check=False, cwd="/")


def test_the_program_computes_the_model(model, packed, tmp_path):
    np.savez(tmp_path / "in.npz", **feeds())
    done = run_program(packed, tmp_path / "in.npz", tmp_path / "out.npz")
    assert (done.returncode, done.stderr) == (0, "")
    got, expected = dict(np.load(tmp_path / "out.npz")), OrtBackend().reference(network(model)).run(feeds())
    assert {name: (value.dtype, value.shape) for name, value in got.items()} == {name: (value.dtype, value.shape) for name, value in expected.items()}
    np.testing.assert_allclose(got["y"], expected["y"], rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(got["k"], expected["k"])
    np.testing.assert_array_equal(got["p"], expected["p"])


def test_the_program_runs_without_inputs(packed):
    done = run_program(packed)
    assert (done.returncode, done.stderr) == (0, "")
    assert "y float32 (1, 10)" in done.stdout


def test_the_program_never_imports_the_compiler(packed):
    lines = (packed / "run.py").read_text().splitlines()
    assert [line for line in lines if line.startswith(("import", "from"))] == ["import ctypes, importlib.util, json, pathlib, sys, numpy as np, tvm_ffi"]
    done = subprocess.run(
        [sys.executable, "-I", "-c", f"import sys, runpy; sys.argv = ['run.py']; runpy.run_path({str(packed / 'run.py')!r}); assert 'tvm' not in sys.modules"],
        capture_output=True, text=True, check=False, cwd="/",
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


def test_large_weights_lie_in_one_file_and_nowhere_else(model, packed):
    signature = read_signature(packed)
    assert [weight.shape for weight in signature.weights] == [(16, 3, 3, 3), (1024, 10)]
    assert all(weight.offset % 64 == 0 for weight in signature.weights)
    weights = open_weights(packed, signature)
    assert all(array.ctypes.data % 64 == 0 for array in weights)
    largest = network(model).graph.initializers["w"].const_value.numpy()
    assert largest.tobytes() in (packed / WEIGHTS).read_bytes()
    assert largest.tobytes() not in (packed / "model.so").read_bytes()


def test_a_constant_used_twice_is_one_weight(model):
    made = model(
        "g (float[4,64] x, float[64,64] w) => (float[4,64] y) { a = MatMul(x, w) r = Relu(a) y = MatMul(r, w) }", w=np.eye(64, dtype=np.float32)
    )
    module, weights = lift_weights(lowered(made)[0])
    assert [tuple(weight.shape) for weight in weights] == [(64, 64)]
    assert len(module["main"].params) == 2


def test_a_module_without_large_weights_is_left_alone(model):
    module, _ = lowered(model("g (float[4] x) => (float[4] y) { y = Relu(x) }"))
    assert lift_weights(module) == (module, [])


def test_ports_keep_open_sizes_in_the_signature(tmp_path):
    from graphwright.backends.tvm.files import SIGNATURE, Signature, write_signature

    ports = (Port("a", "tensor(float)", ("batch", 3, None)), Port("b", "tensor(int64)", ()), Port("c", "tensor(bool)", None))
    write_signature(Signature(ports, ports[:1]), tmp_path / SIGNATURE)
    assert read_signature(tmp_path) == Signature(ports, ports[:1])


def test_a_folder_without_a_signature_is_named(tmp_path):
    with pytest.raises(ArtifactError, match="there is no model.json"):
        read_signature(tmp_path)
    (tmp_path / "model.json").write_text(json.dumps({"inputs": []}))
    with pytest.raises(ArtifactError, match="cannot be read"):
        read_signature(tmp_path)


def test_weights_cut_short_are_noticed(packed):
    (packed / WEIGHTS).write_bytes((packed / WEIGHTS).read_bytes()[:-1])
    with pytest.raises(ArtifactError, match="cannot be read"):
        open_weights(packed, read_signature(packed))


def test_without_a_compiler_to_link_with_one_sentence_says_so(tmp_path, monkeypatch):
    from tvm.support import cc

    monkeypatch.setattr(cc, "get_cc", lambda: None)
    with pytest.raises(BackendMissing, match=r"needs a C\+\+ compiler"):
        package.export(None, tmp_path / "model.so")


def test_the_runtime_files_are_listed_with_their_sizes():
    sizes = package.runtime_files()
    assert {"libtvm_ffi.so", "libtvm_runtime.so"} == set(sizes)
    assert all(size > 100_000 for size in sizes.values())
    assert "libtvm_runtime.so" in package.runtime_needed()
