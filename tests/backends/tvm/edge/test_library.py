"""A model of fixed sizes is one library that needs no runtime, on this machine and, under an emulator, on another."""

import gc
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tvm")

from graphwright.backends.ort.backend import OrtBackend
from graphwright.backends.tvm.edge.backend import EdgeBackend
from graphwright.backends.tvm.edge.session import LibraryRunner, ProgramRunner
from graphwright.backends.tvm.edge.toolchain import AARCH64, machine_of, this_machine
from graphwright.compiler.core.errors import ArtifactError, BackendMissing, InputError, TargetError

NET = """g (float[1,3,16,16] x, bool[10] m, float[16,3,3,3] w, float[16] b, float[1024,10] v) => (float[1,10] y, int64[1] k, bool[1,10] p, float[1,1024] f) {
    c = Conv<pads=[1,1,1,1]>(x, w, b) r = Relu(c) q = MaxPool<kernel_shape=[2,2],strides=[2,2]>(r) f = Flatten(q)
    t = MatMul(f, v) z = Softmax(t) y = Where(m, z, t) k = ArgMax<axis=1,keepdims=0>(t) p = Greater(z, y)
}"""
cross = pytest.mark.skipif(
    shutil.which(AARCH64.compiler) is None or AARCH64.find_emulator() is None, reason=f"needs {AARCH64.compiler} and {AARCH64.emulator}"
)
here = pytest.mark.skipif(shutil.which("cc") is None or not this_machine().is_here, reason="needs a C compiler")


def network(model):
    noise = np.random.default_rng(0)
    w, b, v = (noise.standard_normal(shape).astype(np.float32) / 8 for shape in ((16, 3, 3, 3), (16,), (1024, 10)))
    return model(NET, w=w, b=b, v=v)


def feeds(seed=1):
    noise = np.random.default_rng(seed)
    return {"x": noise.standard_normal((1, 3, 16, 16)).astype(np.float32), "m": noise.random(10) < 0.5}


def agree(got, expected):
    assert {name: (value.dtype, value.shape) for name, value in got.items()} == {name: (value.dtype, value.shape) for name, value in expected.items()}
    for name, value in expected.items():
        if value.dtype.kind == "f":
            np.testing.assert_allclose(got[name], value, rtol=1e-5, atol=1e-6)
        else:
            np.testing.assert_array_equal(got[name], value)


def build(made, machine):
    return EdgeBackend("tvm-aarch64", machine).build(made, [], lambda text: None)


@pytest.fixture(scope="module")
def own(model):
    """The network for this machine."""
    return build(network(model), this_machine())


@pytest.fixture(scope="module")
def folder(own, tmp_path_factory):
    """Its package."""
    place = tmp_path_factory.mktemp("package")
    files = EdgeBackend("tvm-aarch64", this_machine()).package(own, place)
    assert sorted(place.iterdir()) == sorted(files)
    return place


@pytest.fixture(scope="module")
def foreign(model):
    """The network for aarch64, running under an emulator."""
    return build(network(model), AARCH64)


@here
def test_the_program_computes_the_model(model, own):
    agree(own.runner.run(feeds()), OrtBackend().reference(network(model)).run(feeds()))


@cross
def test_another_machine_computes_the_model_under_an_emulator(model, foreign):
    assert isinstance(foreign.runner, ProgramRunner)
    agree(foreign.runner.run(feeds()), OrtBackend().reference(network(model)).run(feeds()))
    assert "aarch64 library's own, under qemu-aarch64" in foreign.remarks[0]
    assert "nothing was timed" in foreign.remarks[0]


@cross
def test_a_library_for_another_machine_refers_to_the_c_library_only(foreign):
    text = subprocess.run(["readelf", "-d", str(foreign.draft.path / "model.so")], capture_output=True, text=True, check=True).stdout
    assert {line.rsplit("[")[-1].rstrip("]") for line in text.splitlines() if "NEEDED" in line} <= {"libc.so.6", "libm.so.6"}


@pytest.mark.parametrize("threads", [1, 3])
@here
def test_the_library_runs_in_this_process(own, folder, threads):
    runner = LibraryRunner(folder / "model.so", own.runner.inputs, own.runner.outputs, threads)
    for seed in (1, 2):
        agree(runner.run(feeds(seed)), own.runner.run(feeds(seed)))
    runner.close()
    with pytest.raises(RuntimeError, match="closed"):
        runner.run(feeds())


@here
def test_threads_share_the_work(model):
    text = """g (float[256,512] x, float[512,512] w) => (float[256,512] y, float[256] s) {
        a = Constant<value_ints=[1]>() c = MatMul(x, w) y = Softmax(c) s = ReduceSum<keepdims=0>(y, a)
    }"""
    noise = np.random.default_rng(0)
    made = model(text, w=noise.standard_normal((512, 512)).astype(np.float32) / 20)
    built = build(made, this_machine())
    assert b"TVMBackendParallelLaunch" in (built.draft.path / "kernels.o").read_bytes()
    given = {"x": noise.standard_normal((256, 512)).astype(np.float32)}
    expected = OrtBackend().reference(made).run(given)
    for threads in (1, 2, 7):
        runner = LibraryRunner(built.draft.path / "model.so", built.runner.inputs, built.runner.outputs, threads)
        for _ in range(20):
            agree(runner.run(given), expected)
        runner.close()


@here
def test_two_models_of_one_library_do_not_meet(own, folder):
    one, other = (LibraryRunner(folder / "model.so", own.runner.inputs, own.runner.outputs) for _ in range(2))
    expected = one.run(feeds(1))
    other.run(feeds(2))
    agree({name: array.copy() for name, array in zip((port.name for port in one.outputs), one._made, strict=True)}, expected)


@here
def test_what_is_shipped_is_named(folder, own):
    assert sorted(path.name for path in folder.iterdir()) == ["graphwright.h", "model.json", "model.so", "run", "run.c", "run.py"]
    assert "glibc 2." in own.notes[0]
    assert "nothing of TVM" in own.notes[0]


def run_python(folder, *arguments):
    return subprocess.run([sys.executable, "-I", str(folder / "run.py"), *map(str, arguments)], capture_output=True, text=True, check=False, cwd="/")


@here
def test_the_program_in_python_needs_numpy_only(model, folder, tmp_path):
    assert "import ctypes as c, os, pathlib, sys, numpy as np" in (folder / "run.py").read_text().splitlines()
    np.savez(tmp_path / "in.npz", **feeds())
    done = run_python(folder, tmp_path / "in.npz", tmp_path / "out.npz")
    assert (done.returncode, done.stderr) == (0, "")
    agree(dict(np.load(tmp_path / "out.npz")), OrtBackend().reference(network(model)).run(feeds()))
    assert "y float32 (1, 10)" in run_python(folder).stdout


@here
def test_the_program_tells_ports_and_latency(folder):
    done = subprocess.run([folder / "run", "-r", "5", "-t", "2"], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert lines[:2] == ["input x <f4 (1, 3, 16, 16)", "input m |b1 (10)"]
    assert lines[2].startswith("latency ") and "of 5; memory" in lines[2]
    assert lines[3:] == ["output y <f4 (1, 10)", "output k <i8 (1)", "output p |b1 (1, 10)", "output f <f4 (1, 1024)"]


@here
def test_the_program_says_what_is_wrong_with_its_files(folder, tmp_path):
    np.save(tmp_path / "x.npy", feeds()["x"])
    np.save(tmp_path / "m.npy", feeds()["m"])
    np.save(tmp_path / "wide.npy", feeds()["x"].astype(np.float64))
    (tmp_path / "short.npy").write_bytes((tmp_path / "x.npy").read_bytes()[:-4])
    (tmp_path / "text.npy").write_text("no array")

    def said(*names):
        done = subprocess.run([folder / "run", *(tmp_path / name for name in names)], capture_output=True, text=True, check=False)
        assert done.returncode == 1
        return done.stderr

    assert "the input 'x' needs {'descr': '<f4', 'fortran_order': False, 'shape': (1, 3, 16, 16), }" in said("wide.npy", "m.npy")
    assert "does not hold what its header says" in said("short.npy", "m.npy")
    assert "not a .npy file" in said("text.npy", "m.npy")
    assert "cannot open" in said("none.npy", "m.npy")
    assert "no file for the input: m" in said("x.npy")
    assert "more files than inputs" in said("x.npy", "m.npy", "m.npy")


@here
def test_feeds_that_do_not_fit_are_refused(own):
    with pytest.raises(InputError, match=r"takes float32"):
        own.runner.run({**feeds(), "x": np.zeros((1, 3, 16, 16))})
    with pytest.raises(InputError, match=r"was given the shape \[1, 3, 8, 8\]"):
        own.runner.run({**feeds(), "x": np.zeros((1, 3, 8, 8), np.float32)})


@pytest.mark.parametrize(
    ("text", "weights"),
    [
        ("g (float[2,3] x) => (float[2,3] y) { y = Identity(x) }", {}),
        ("g (float[2,3] x, float[2,3] w) => (float[2,3] y, float[2,3] w2) { y = Relu(x) w2 = Identity(w) }", {"w": np.ones((2, 3), np.float32)}),
        ("g (float[2,3] x) => (float[6] y, float[2,3] z) { s = Constant<value_ints=[6]>() z = Exp(x) y = Reshape(z, s) }", {}),
        ("g (int8[4] x, float16[4] h) => (int32[4] y, float16[4] z, double[4] d) { y = Cast<to=6>(x) z = Neg(h) d = Cast<to=11>(h) }", {}),
        ("g (float x) => (float y) { y = Sqrt(x) }", {}),
    ],
    ids=["an input as it is", "a constant", "one tensor in two shapes", "many types", "a scalar"],
)
@here
def test_whatever_goes_in_and_out(model, text, weights):
    made = model(text, **weights)
    built = build(made, this_machine())
    noise = np.random.default_rng(3)
    given = {value.name: noise.integers(1, 9, value.shape.numpy()).astype(value.dtype.numpy()) for value in made.graph.inputs}
    agree(built.runner.run(given), OrtBackend().reference(made).run(given))


def test_open_sizes_are_refused(model):
    with pytest.raises(TargetError, match="every size to be known"):
        build(model("g (float[N,3] x) => (float[N,3] y) { y = Relu(x) }"), this_machine())


@here
def test_what_needs_the_runtime_is_refused(model):
    with pytest.raises(TargetError, match="of TVM's runtime|no kernel was made for|cannot"):
        build(model("g (float[1,8] x) => (float[1,3] y, int64[1,3] k) { n = Constant<value_ints=[3]>() y, k = TopK(x, n) }"), this_machine())


def test_without_a_cross_compiler_one_sentence_says_so(model, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(BackendMissing, match="needs the C compiler aarch64-linux-gnu-gcc, which is not installed .*apt install gcc-aarch64-linux-gnu"):
        build(network(model), AARCH64)


@here
@cross
def test_without_an_emulator_the_same_kernels_run_here(model, monkeypatch):
    monkeypatch.setattr(type(AARCH64), "find_emulator", lambda machine: None)
    built = build(network(model), AARCH64)
    assert isinstance(built.runner, LibraryRunner)
    agree(built.runner.run(feeds()), OrtBackend().reference(network(model)).run(feeds()))
    assert "the same kernels compiled for this machine" in built.remarks[0]
    with pytest.raises(BackendMissing, match="only with qemu-aarch64"):
        EdgeBackend("tvm-aarch64", AARCH64).load(built.draft.path, {})


def test_cpu_and_features_are_named_with_the_target():
    machine = machine_of("cortex-a76,+dotprod,+fullfp16")
    assert (machine.cpu, machine.features) == ("cortex-a76", ("+dotprod", "+fullfp16"))
    assert machine_of("").target() == {
        "kind": "llvm",
        "mtriple": "aarch64-linux-gnu",
        "num-cores": 4,
        "mcpu": "cortex-a72",
        "mattr": ["+neon"],
    }
    assert EdgeBackend("tvm-aarch64:cortex-a53").targets()[0].name == "tvm-aarch64:cortex-a53"


def test_what_llvm_does_not_know_is_refused():
    with pytest.raises(TargetError, match="knows no aarch64 CPU 'pentium'"):
        machine_of("pentium")
    with pytest.raises(TargetError, match=r"'\+mmx' is no feature"):
        machine_of("cortex-a53,+mmx")
    with pytest.raises(TargetError, match="'neon' is no feature"):
        machine_of("cortex-a53,neon")


@here
def test_a_library_for_another_machine_is_not_loaded(tmp_path):
    (tmp_path / "model.so").write_bytes(Path(sys.executable).read_bytes()[:100])
    with pytest.raises(ArtifactError, match="cannot be loaded on this machine"):
        LibraryRunner(tmp_path / "model.so", (), ())


@here
def test_a_runner_outlives_what_it_was_built_with(model):
    runner = build(network(model), this_machine()).runner
    gc.collect()
    assert set(runner.run(feeds())) == {"y", "k", "p", "f"}
