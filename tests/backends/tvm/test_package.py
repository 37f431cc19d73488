"""A model compiled by TVM runs from its folder with TVM's runtime alone, and its weights lie in one file."""

import json
import math
import shutil
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("tvm")

from graphwright.backends.ort.backend import OrtBackend
from graphwright.backends.tvm import package
from graphwright.backends.tvm.build import build_model
from graphwright.backends.tvm.building import fused_module
from graphwright.backends.tvm.files import SIGNATURE, WEIGHTS, Signature, Weight, open_weights, read_signature, write_signature
from graphwright.backends.tvm.machine import this_machine
from graphwright.backends.tvm.opening import open_package
from graphwright.backends.tvm.options import DEFAULT
from graphwright.backends.tvm.weights import lift_weights
from graphwright.compiler.core.backend import Port
from graphwright.compiler.core.errors import ArtifactError, BackendMissing, InputError

NET = """g (float[1,3,16,16] x, bool[10] m, float[16,3,3,3] w, float[16] b, float16[1024,10] v) => (float[1,10] y, int64[1] k, bool[1,10] p) {
    c = Conv<pads=[1,1,1,1]>(x, w, b) r = Relu(c) q = MaxPool<kernel_shape=[2,2],strides=[2,2]>(r) f = Flatten(q)
    u = Cast<to=1>(v) t = MatMul(f, u) z = Softmax(t) y = Where(m, z, t) k = ArgMax<axis=1,keepdims=0>(t) p = Greater(z, y)
}"""


def network(model):
    noise = np.random.default_rng(0)
    w, b, v = noise.standard_normal((16, 3, 3, 3)), noise.standard_normal(16), noise.standard_normal((1024, 10))
    return model(NET, w=w.astype(np.float32), b=b.astype(np.float32), v=(v / 30).astype(np.float16))


def feeds():
    noise = np.random.default_rng(1)
    return {"x": noise.standard_normal((1, 3, 16, 16)).astype(np.float32), "m": noise.random(10) < 0.5}


def built(made):
    return build_model(made, DEFAULT, this_machine(), lambda text: None)


@pytest.fixture(scope="module")
def packed(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("packed")
    files, notes = package.write_package(built(network(model)), folder)
    assert sorted(folder.iterdir()) == sorted(files)
    assert notes == (package.runtime_needed(),)
    return folder


def agree(got, expected):
    assert {name: (value.dtype, value.shape) for name, value in got.items()} == {name: (value.dtype, value.shape) for name, value in expected.items()}
    np.testing.assert_allclose(got["y"], expected["y"], rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(got["k"], expected["k"])
    np.testing.assert_array_equal(got["p"], expected["p"])


def run_program(folder, *arguments):
    return subprocess.run([sys.executable, "-I", str(folder / "run.py"), *map(str, arguments)], capture_output=True, text=True, check=False, cwd="/")


def test_the_program_computes_the_model(model, packed, tmp_path):
    np.savez(tmp_path / "in.npz", **feeds())
    done = run_program(packed, tmp_path / "in.npz", tmp_path / "out.npz")
    assert done.returncode == 0, done.stderr
    agree(dict(np.load(tmp_path / "out.npz")), OrtBackend().reference(network(model)).run(feeds()))


def test_a_package_is_opened_and_runs(model, packed):
    runner = open_package(packed)
    agree(runner.run(feeds()), OrtBackend().reference(network(model)).run(feeds()))
    with pytest.raises(InputError, match="takes float32"):
        runner.run({**feeds(), "x": np.zeros((1, 3, 16, 16))})


def test_outputs_that_are_inputs_or_weights_stay_copies_after_opening(model, tmp_path):
    made = model("g (float[64,64] x, float[64,64] w) => (float[64,64] y, float[64,64] z) { y = Identity(x) z = Identity(w) }", w=np.eye(64, dtype=np.float32))
    package.write_package(built(made), tmp_path)
    runner, x = open_package(tmp_path, (0, 1)), np.ones((64, 64), np.float32)
    for value in runner.run({"x": x}).values():
        value[:] = 7
    again = runner.run({"x": x})
    np.testing.assert_array_equal(again["y"], x)
    np.testing.assert_array_equal(again["z"], np.eye(64))


def test_sizes_may_stay_open(model, tmp_path):
    made = model("g (float[N,64] x, float[64,64] w) => (float[N,64] y) { y = MatMul(x, w) }", w=np.eye(64, dtype=np.float32) * 2)
    package.write_package(built(made), tmp_path)
    runner = open_package(tmp_path)
    for size in (1, 5):
        x = np.random.default_rng(size).standard_normal((size, 64)).astype(np.float32)
        np.testing.assert_array_equal(runner.run({"x": x})["y"], x * 2)


def test_the_program_runs_without_inputs(packed):
    done = run_program(packed)
    assert done.returncode == 0, done.stderr
    assert "y float32 (1, 10)" in done.stdout


def test_the_program_never_imports_the_compiler(packed):
    lines = (packed / "run.py").read_text().splitlines()
    assert [line for line in lines if line.startswith(("import", "from"))] == ["import ctypes, importlib.util, json, os, pathlib, sys, numpy as np, tvm_ffi"]
    done = subprocess.run(
        [sys.executable, "-I", "-c", f"import sys, runpy; sys.argv = ['run.py']; runpy.run_path({str(packed / 'run.py')!r}); assert 'tvm' not in sys.modules"],
        capture_output=True, text=True, check=False, cwd="/",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_large_weights_lie_in_one_file_and_nowhere_else(model, packed):
    signature = read_signature(packed)
    assert sorted(math.prod(weight.shape) for weight in signature.weights) == [16 * 3 * 3 * 3, 1024 * 10]
    assert all(weight.offset % 64 == 0 for weight in signature.weights)
    weights = open_weights(packed, signature)
    assert all(array.ctypes.data % 64 == 0 for array in weights)
    given = network(model).graph.initializers["w"].const_value.numpy()
    np.testing.assert_array_equal(np.sort(min(weights, key=np.size), axis=None), np.sort(given, axis=None))
    library, params = (packed / "model.so").read_bytes(), (packed / WEIGHTS).read_bytes()
    assert all(array.tobytes() in params and array.tobytes() not in library for array in weights)


def test_a_constant_used_twice_is_one_weight(model):
    text = "g (float[4,64] x, float[64,64] w) => (float[4,64] y) { a = MatMul(x, w) r = Relu(a) y = MatMul(r, w) }"
    assert [math.prod(weight.shape) for weight in built(model(text, w=np.eye(64, dtype=np.float32))).weights] == [64 * 64]


def test_a_module_without_large_weights_is_left_alone(model):
    import tvm

    module = fused_module(model("g (float[4] x) => (float[4] y) { y = Relu(x) }"))
    assert isinstance(module, tvm.IRModule)
    assert lift_weights(module) == (module, [])


def test_ports_keep_open_sizes_in_the_signature(tmp_path):
    ports = (Port("a", "tensor(float)", ("batch", 3, None)), Port("b", "tensor(int64)", ()), Port("c", "tensor(bool)", None))
    signature = Signature(ports, ports[:1], (Weight(64, "float16", (2, 3)),))
    write_signature(signature, tmp_path / SIGNATURE)
    assert read_signature(tmp_path) == signature


def test_a_folder_without_a_signature_is_named(tmp_path):
    with pytest.raises(ArtifactError, match="there is no model.json"):
        read_signature(tmp_path)
    (tmp_path / "model.json").write_text(json.dumps({"inputs": []}))
    with pytest.raises(ArtifactError, match="cannot be read"):
        read_signature(tmp_path)


def test_weights_cut_short_are_noticed(packed, tmp_path):
    shutil.copytree(packed, tmp_path / "cut")
    (tmp_path / "cut" / WEIGHTS).write_bytes((packed / WEIGHTS).read_bytes()[:-1])
    with pytest.raises(ArtifactError, match="cannot be read"):
        open_package(tmp_path / "cut")


def test_a_library_that_is_none_is_named(packed, tmp_path):
    shutil.copytree(packed, tmp_path / "broken")
    (tmp_path / "broken" / "model.so").write_bytes(b"no library")
    with pytest.raises(ArtifactError, match="model.so' cannot be loaded here"):
        open_package(tmp_path / "broken")
    (tmp_path / "broken" / "model.so").unlink()
    with pytest.raises(ArtifactError, match="there is no model.so"):
        open_package(tmp_path / "broken")


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
