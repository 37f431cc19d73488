"""A model under ONNX Runtime as everybody has it: the yardstick that catalogue figures were measured with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import numpy as np

from ..compiler.core.backend import Array


class Runs(Protocol):
    """What a metric needs of a model: named arrays in, named arrays out. Artifacts and backend runners have it."""

    def run(self, feeds: Mapping[str, Array], /) -> Mapping[str, Array]:
        """All outputs by name."""
        ...


class Plain:
    """An ONNX file or its bytes in a session with default options, but its threads rest between runs, so that sessions do not disturb each other.

    With ``spinning`` they wait for the next run at full speed, as they do by default.
    """

    def __init__(self, model: Path | bytes, *, threads: int = 0, spinning: bool = False) -> None:
        import onnxruntime

        onnxruntime.set_default_logger_severity(3)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        if not spinning:
            options.add_session_config_entry("session.force_spinning_stop", "1")
        source = str(model) if isinstance(model, Path) else model
        self._session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        self.outputs = [port.name for port in self._session.get_outputs()]

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """All outputs by name."""
        return dict(zip(self.outputs, self._session.run(None, dict(feeds)), strict=True))


def only(outputs: Mapping[str, Array]) -> np.ndarray:
    """The one output of a model that has one."""
    (output,) = outputs.values()
    return np.asarray(output)
