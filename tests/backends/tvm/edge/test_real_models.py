"""Real models for aarch64 give the right answers under an emulator, which takes its time."""

import shutil

import numpy as np
import pytest

pytest.importorskip("tvm")

from graphwright.backends.ort.backend import OrtBackend
from graphwright.backends.tvm.edge.backend import EdgeBackend
from graphwright.backends.tvm.edge.toolchain import AARCH64
from graphwright.compiler.core.fixed import fix_inputs
from graphwright.compiler.core.shapes import infer_shapes
from graphwright.compiler.importer import import_model
from graphwright.models.images import CLASSIFIERS
from graphwright.models.shared import image, imagenet_files, spread

IMAGES = 4


@pytest.mark.slow
@pytest.mark.shared
@pytest.mark.parametrize("name", ["mobilenetv2", "mobilenetv1_0.25_224_trained"])
def test_top_1_on_aarch64_is_right(shared, name):
    if shutil.which(AARCH64.compiler) is None or AARCH64.find_emulator() is None:
        pytest.skip(f"needs {AARCH64.compiler} and {AARCH64.emulator}")
    classifier = next(one for one in CLASSIFIERS if one.name == name)
    model = import_model(shared / "models" / f"{name}.onnx").model
    reference = OrtBackend().reference(model)
    files = imagenet_files("report")
    chosen = [files[index] for index in spread(len(files), 4 * IMAGES)]
    right = [(label, path) for label, path in chosen if classifier._best(reference, image(path)) == label][:IMAGES]
    assert len(right) == IMAGES
    sample = {classifier.input: classifier.prepare(image(right[0][1]))}
    fixed = fix_inputs(model, sample)
    for value in fixed.graph.outputs:
        value.shape = None
    infer_shapes(fixed)
    runner = EdgeBackend("tvm-aarch64", AARCH64).build(fixed, [], lambda text: None).runner
    assert [classifier._best(runner, image(path)) for _, path in right] == [label for label, _ in right]
    for port in reference.outputs:
        np.testing.assert_allclose(runner.run(sample)[port.name], reference.run(sample)[port.name], rtol=1e-3, atol=1e-4)
