"""torch modules to ONNX files, the way users do it, without the exporter's chatter."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def dynamo(
    module: torch.nn.Module, args: tuple[object, ...], path: Path, *, kwargs: Mapping[str, object] | None = None,
    dynamic_shapes: tuple[object, ...] | None = None, optimize: bool = True,
) -> Path:  # fmt: skip
    """Export with torch's current exporter; without ``optimize``, as it stands before the exporter tidies it up."""
    import torch

    with quiet():
        torch.onnx.export(
            module, args, path, kwargs=dict(kwargs or {}), dynamo=True, dynamic_shapes=dynamic_shapes, optimize=optimize, verbose=False, external_data=False
        )
    return path


def torchscript(
    module: torch.nn.Module, args: tuple[object, ...], path: Path, *, inputs: Sequence[str], outputs: Sequence[str],
    dynamic_axes: Mapping[str, Mapping[int, str]] | None = None, opset: int = 17,
) -> Path:  # fmt: skip
    """Export with torch's older exporter, which most files in the wild came from."""
    import torch

    with quiet():
        torch.onnx.export(
            module, args, path, dynamo=False, input_names=list(inputs), output_names=list(outputs), dynamic_axes=dict(dynamic_axes or {}), opset_version=opset
        )
    return path


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """No warnings, log lines or progress bars from torch and transformers inside."""
    loggers = [logging.getLogger(name) for name in ("transformers", "torch.onnx", "torch.onnx._internal.exporter._registration", "torch.export", "onnxscript")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
