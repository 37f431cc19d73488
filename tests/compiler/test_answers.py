"""What was built is held to its contract sample by sample."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir
import pytest

from graphwright.backends.ort.backend import OrtBackend
from graphwright.compiler.answers import judge_answers
from graphwright.compiler.core.backend import Array
from graphwright.compiler.verify import Verifier

MODEL = '<ir_version: 8, opset_import: ["" : 17]> g (float[3] x) => (float[3] y) { y = Relu(x) }'
SAMPLES = ({"x": np.array([1, 2, 3], np.float32)}, {"x": np.array([-1, 0, 5], np.float32)})


class Off:
    """Answers that are off by an amount for each sample, known by its first number."""

    inputs = outputs = ()

    def __init__(self, by: Mapping[float, float]) -> None:
        self.by = by

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        data = np.asarray(feeds["x"])
        return {"y": np.maximum(data, 0) + np.float32(self.by.get(float(data[0]), 0.0))}

    def close(self) -> None:
        """Nothing is held."""


@pytest.fixture(scope="module")
def verifier():
    return Verifier(ir.from_onnx_text(MODEL), SAMPLES, OrtBackend())


@pytest.mark.parametrize(
    ("found", "usual", "passed", "wrong"),
    [
        ({}, {}, 0, False),
        ({1.0: 0.5}, {}, 0, True),
        ({1.0: 0.5}, {1.0: 0.4}, 1, False),
        ({1.0: 0.5}, {1.0: 0.1}, 0, True),
        ({1.0: 0.5}, {-1.0: 9.0}, 0, True),
        ({1.0: np.nan}, {1.0: 0.5}, 0, True),
        ({1.0: np.nan}, {1.0: np.nan}, 1, False),
        ({1.0: 0.5}, {1.0: np.nan}, 1, False),
    ],
)
def test_a_sample_is_let_pass_only_where_the_defaults_are_as_wrong_on_it(verifier, found, usual, passed, wrong):
    answers = judge_answers(verifier, Off(found), Off(usual))
    assert (answers.passed, bool(answers.fault)) == (passed, wrong)
