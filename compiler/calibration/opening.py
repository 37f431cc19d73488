"""The door for calibration data: whatever the user has, as samples of a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import onnx_ir as ir

from ..core.backend import Sample
from ..core.errors import InputError
from ..importers.feeds import arranger
from .data import CalibrationData, Samples

__all__ = ["open_calibration"]

Arrange = Callable[..., Sample]
"""Turns the arguments of a call into a sample: `importer.Source.arrange`."""


def open_calibration(source: object, model: ir.Model, arrange: Arrange | None = None) -> CalibrationData:
    """Calibration data for ``model``. Raises InputError when there is none."""
    items = source if isinstance(source, list) else [source]
    if not items:
        raise InputError("the calibration data has no samples")
    return CalibrationData(Samples(items, Fit(model, arrange)), "given")


class Fit:
    """Brings one item of a source into the form that a model is fed. Raises InputError when it does not fit."""

    def __init__(self, model: ir.Model, arrange: Arrange | None) -> None:
        self._check = arranger(model)
        self._arrange = arrange
        self._names = {value.name for value in model.graph.inputs}

    def __call__(self, item: object) -> Sample:
        if isinstance(item, Mapping) and (self._arrange is None or self._names.issuperset(item)):
            return self._check(**self._named(item))
        call = self._arrange or self._check
        if isinstance(item, Mapping):
            return self._check(**call(**self._named(item)))
        arguments = item if isinstance(item, (tuple, list)) else (item,)
        return self._check(**call(*arguments))

    def _named(self, item: Mapping[object, object]) -> dict[str, object]:
        if not all(isinstance(name, str) for name in item):
            raise InputError("a calibration sample is named by texts: {input name: array}")
        return {str(name): value for name, value in item.items()}
