"""The two yardsticks: what a model means, and what everybody runs today."""

from __future__ import annotations

import onnx_ir as ir

from ...compiler.core.backend import Runner
from .options import DEFAULT, REFERENCE, Options
from .segments import SEGMENT_BYTES, SegmentedRunner
from .session import open_skeleton
from .skeleton import skeleton_of, weight_bytes

WHOLE_BYTES = 512 << 20
"""Models with more weights than this run in segments."""


def open_reference(model: ir.Model, *, whole_bytes: int = WHOLE_BYTES) -> Runner:
    """The model with every optimisation of the runtime off."""
    return open_model(model, REFERENCE, whole_bytes=whole_bytes)


def open_baseline(model: ir.Model, *, options: Options = DEFAULT, whole_bytes: int = WHOLE_BYTES) -> Runner:
    """The model with the runtime's default options, those of a device being ``options``."""
    return open_model(model, options, whole_bytes=whole_bytes)


def open_model(model: ir.Model, options: Options, *, whole_bytes: int = WHOLE_BYTES, segment_bytes: int = SEGMENT_BYTES) -> Runner:
    """A runner for a model: one session, or segments of ``segment_bytes`` of weights when it has more than ``whole_bytes``.

    Raises ModelError when the model cannot be loaded, TargetError when ONNX Runtime has no kernel for one of its operators.
    """
    skeleton = skeleton_of(model)
    if weight_bytes(model) <= whole_bytes:
        return open_skeleton(skeleton, options)
    return SegmentedRunner(model, skeleton, options, segment_bytes=segment_bytes)
