"""A real quantised network: what the runtime's own integer kernels round differently is no fault, one wrong weight is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from graphwright.backends.ort.backend import OrtBackend
from graphwright.compiler.core.drift import ROUNDING
from graphwright.compiler.core.graph import clone_model
from graphwright.compiler.verify import Verifier
from graphwright.models.catalogue import find

NAME = "mobilenetv1_0.5_160_qdq"


@pytest.mark.shared
def test_integer_kernels_stay_within_what_rounding_does_to_a_quantised_network_and_a_wrong_scale_does_not(shared: Path, tmp_path: Path) -> None:
    entry = find(NAME)
    model, backend = ir.load(entry.file(tmp_path)), OrtBackend()
    verifier = Verifier(model, list(entry.feeds(4, "report")), backend)
    with backend.baseline(model) as fused:
        assert not verifier.check_runner(fused, ROUNDING).broken
    wrong = clone_model(model)
    scale = next(node.inputs[1] for node in wrong.graph if node.op_type == "QuantizeLinear")
    assert scale is not None and scale.const_value is not None
    scale.const_value = ir.tensor((scale.const_value.numpy() * 1.5).astype(np.float32), name=scale.name)
    assert verifier.check(wrong, ROUNDING).broken
