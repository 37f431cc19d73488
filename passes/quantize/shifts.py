"""What rounding shifts the mean of each channel by, found site by site on calibration data and taken off the biases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir

from ...compiler.core.graph import array, producer
from ...compiler.core.statistics import Calibrator

__all__ = ["means_of", "settle"]

SAMPLES = 32
"""More hardly change what is found: every pixel counts."""
BIAS = 2


def means_of(model: ir.Model, values: Sequence[str], calibrator: Calibrator) -> dict[str, np.ndarray]:
    """The mean of each channel of these values, float64 [C]."""
    return dict(calibrator.means(model, values, SAMPLES))


def settle(model: ir.Model, nodes: Mapping[str, ir.Node], exact: Mapping[str, np.ndarray], calibrator: Calibrator) -> dict[str, np.ndarray]:
    """Take off each bias what its channel's mean is too large by, in the order of the graph: so each sees what those before it have left.

    ``nodes`` are the convolutions and Gemms of a quantised model by a name, ``exact`` what their means should be. Returns what was taken off, float64 [C].
    Nagel et al., "Data-free quantization through weight equalization and bias correction", 2019, section 4.2, the empirical form: rounding of what goes
    in, clipping, and what a ReLU makes of noise are in it too.
    """
    places = {node: place for place, node in enumerate(model.graph)}
    usable = {str(node.outputs[0].name): name for name, node in sorted(nodes.items(), key=lambda item: places[item[1]]) if name in exact and _has_bias(node)}
    found: dict[str, np.ndarray] = {}
    for value, mean in calibrator.means(model, list(usable), SAMPLES, in_turn=True):
        name = usable[value]
        shift = mean - exact[name]
        if np.isfinite(shift).all() and shift.shape == exact[name].shape:
            _take_off(nodes[name].inputs[BIAS], shift)
            found[name] = shift
    return found


def _has_bias(node: ir.Node) -> bool:
    return len(node.inputs) > BIAS and _stored(node.inputs[BIAS]) is not None


def _stored(bias: ir.Value | None) -> ir.Value | None:
    """The constant that a bias is, or is decoded from."""
    decoded = producer(bias, "DequantizeLinear") if bias is not None else None
    value = decoded.inputs[0] if decoded is not None else bias
    return value if value is not None and value.const_value is not None else None


def _take_off(bias: ir.Value | None, shift: np.ndarray) -> None:
    assert bias is not None
    stored, decoded = _stored(bias), producer(bias, "DequantizeLinear")
    content = array(stored)
    assert stored is not None and content is not None
    if decoded is not None:
        shift = np.rint(shift / array(decoded.inputs[1]))
    stored.const_value = ir.tensor((content.astype(np.float64) - shift).astype(content.dtype), name=stored.name)
