"""Weights that a caller may override are constants for generated code, and the report says so."""

import numpy as np
import pytest

pytest.importorskip("tvm")

import graphwright  # noqa: E402

TEXT = """g (float[2,8] x, float[8,8] w) => (float[2,8] y) <float[8,8] w> { a = MatMul(x, w) b = Relu(a) c = Neg(b) d = Neg(c) y = Relu(d) }"""


def test_a_model_whose_weights_are_inputs_is_optimised_with_them_as_they_are(model):
    subject = model(TEXT.replace("<float[8,8] w>", f"<float[8,8] w = {{{', '.join(str(number / 64) for number in range(64))}}}>"))
    x = np.random.default_rng(0).normal(size=(2, 8)).astype(np.float32)
    with graphwright.compile(subject, {"x": x}, target="tvm-cpu") as artifact:
        assert any("'w'" in note and "constant" in note for note in artifact.report.notes)
        assert not any("has no input" in note for note in artifact.report.notes)
        weight = np.arange(64, dtype=np.float32).reshape(8, 8) / 64
        np.testing.assert_allclose(artifact.run({"x": x})["y"], np.maximum(x @ weight, 0), rtol=1e-5, atol=1e-6)
    assert any(value.is_initializer() for value in subject.graph.inputs)
