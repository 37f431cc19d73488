"""Models that nothing was developed on quantise to int8, and the report accounts for every site. All twenty: ``make bench-quant ARGS='--only unseen'``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

import graphwright
from graphwright.models.session import Plain, only
from graphwright.models.strangers import Stranger, strangers

QUICK = ("u_net", "temporal_convolutions", "cross_attention", "grouped_shuffle")
CASES = [pytest.param(one, id=one.name, marks=() if one.name in QUICK else pytest.mark.slow) for one in strangers()]


def integers(model: onnx.ModelProto) -> int:
    """How many constants of a byte or less an element there are, scalars left out."""
    small = (onnx.TensorProto.INT8, onnx.TensorProto.UINT8, onnx.TensorProto.INT4, onnx.TensorProto.UINT4)
    return sum(tensor.data_type in small and bool(tensor.dims) and np.prod(tensor.dims) > 1 for tensor in model.graph.initializer)


@pytest.mark.parametrize("stranger", CASES)
def test_a_stranger_quantises_and_every_site_is_accounted_for(stranger: Stranger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAPHWRIGHT_CACHE", str(tmp_path / "cache"))
    path, samples = stranger.export(tmp_path), list(stranger.feeds(12))
    artifact = graphwright.compile(path, precision="int8", size=True, calibration=samples[:8], output=tmp_path / "out")
    entry = artifact.report.compression
    assert entry is not None and entry.compressed > 0 and entry.sites == len(entry.places)
    assert not [place.name for place in entry.places if not place.form and not place.why]
    assert integers(onnx.load(tmp_path / "out" / "model.onnx")) > 0
    exact = Plain(path)
    for sample in samples[8:]:
        found, expected = (only(runner.run(sample)).astype(np.float64).ravel() for runner in (artifact, exact))
        assert found @ expected > 0.98 * np.linalg.norm(found) * np.linalg.norm(expected)
