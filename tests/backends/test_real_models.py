"""Real models are built, packaged and run by their own program, with the same bits as here."""

import subprocess
import sys

import numpy as np
import onnx_ir as ir
import pytest

from graphwright.backends.ort.backend import OrtBackend
from graphwright.backends.ort.ports import ELEMENTS


def sample(runner, sizes):
    """Noise for floats, ones for everything else."""
    noise = np.random.default_rng(0)
    feeds = {}
    for port in runner.inputs:
        dims = [dim if isinstance(dim, int) else sizes.get(dim, 1) for dim in port.shape]
        dtype = ELEMENTS[port.dtype[7:-1]][1]
        feeds[port.name] = noise.standard_normal(dims).astype(dtype) if dtype.kind == "f" else np.ones(dims, dtype)
    return feeds


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("mobilenetv2", {"height": 224, "width": 224}),
        ("squeezenet_fp16", {}),
        ("mobilenetv1_0.5_160_qdq", {}),
        ("silero_vad", {"sequence": 512, None: 512}),
        ("llama_260k", {"s": 8, "seq": 8}),
    ],
)
def test_a_package_of_a_real_model_says_the_same(shared, tmp_path, name, sizes):
    backend = OrtBackend()
    model = ir.load(shared / "models" / f"{name}.onnx")
    reference = backend.reference(model)
    feeds = sample(reference, sizes)
    if "sr" in feeds:
        feeds.update(sr=np.array(16000), input=np.zeros((1, 512), np.float32), state=np.zeros((2, 1, 128), np.float32))
    expected = reference.run(feeds)
    built = backend.build(model, [], lambda text: None)
    built.samples = (feeds,)
    files = backend.package(built, tmp_path)
    assert {path.name for path in files} == {"model.onnx", "model.ort", "required_operators.config", "run.py"}
    np.savez(tmp_path / "in.npz", **feeds)
    done = subprocess.run([sys.executable, "-I", tmp_path / "run.py", tmp_path / "in.npz", tmp_path / "out.npz"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    here = built.runner.run(feeds)
    with np.load(tmp_path / "out.npz") as there:
        assert {key: there[key].tobytes() for key in there} == {key: value.tobytes() for key, value in here.items()}
    for key, value in expected.items():
        assert here[key].shape == value.shape
        assert here[key].dtype == value.dtype
