"""What a manifest says about an artifact for the CPU: which runtime runs it, and its parts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from ..core.backend import Port
from ..core.errors import ArtifactError
from ..report import PortEntry
from .runner import Wanted

__all__ = ["Layout", "PartEntry", "SizeEntry", "read_layout"]

_FOLDER = re.compile(r"parts/[0-9]+")


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PartEntry(_Section):
    """One part: the target that runs it, its folder in the artifact, its backend's options, and the values it is fed."""

    place: str
    folder: str
    options: dict[str, object] = {}
    needs: list[str]

    @field_validator("folder")
    @classmethod
    def _inside(cls, folder: str) -> str:
        if not _FOLDER.fullmatch(folder):
            raise ValueError(f"a part cannot lie in '{folder}'")
        return folder


class SizeEntry(_Section):
    """The arrays of one input that the parts were made for: of one number only, where there is a ``value``."""

    dtype: str
    shape: list[int]
    value: bool | int | None = None

    @field_validator("dtype")
    @classmethod
    def _known(cls, dtype: str) -> str:
        try:
            return np.dtype(dtype).name
        except TypeError as error:
            raise ValueError(f"there is no dtype '{dtype}'") from error


class Layout(_Section):
    """``runtime`` runs the model: ONNX Runtime alone, TVM alone, or both, part by part. ``whole`` are ONNX Runtime's options for the whole model, which
    serves arrays of other sizes than ``sizes``; ``inputs`` and ``outputs`` are the model's.
    """

    runtime: Literal["onnxruntime", "tvm", "mixed"] = "onnxruntime"
    whole: dict[str, object] = {}
    parts: list[PartEntry] = []
    sizes: dict[str, SizeEntry] = {}
    inputs: list[PortEntry] = []
    outputs: list[PortEntry] = []

    def ports(self) -> tuple[tuple[Port, ...], tuple[Port, ...]]:
        """The model's inputs and outputs."""
        return tuple(map(_port, self.inputs)), tuple(map(_port, self.outputs))

    def wanted(self) -> tuple[Wanted, ...]:
        """The arrays that the parts were made for."""
        return tuple(Wanted(name, np.dtype(size.dtype), tuple(size.shape), size.value) for name, size in self.sizes.items())


def read_layout(options: Mapping[str, object]) -> Layout:
    """The layout in a manifest's options. Raises ArtifactError naming what is wrong with them."""
    try:
        layout = Layout.model_validate(dict(options))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise ArtifactError(f"the options of this artifact cannot be read: {first['msg']} ({place}). Compile again.") from error
    if layout.runtime != "onnxruntime" and not layout.parts:
        raise ArtifactError("the options of this artifact cannot be read: it runs in parts, and none is named. Compile again.")
    return layout


def _port(entry: PortEntry) -> Port:
    return Port(entry.name, entry.dtype, None if entry.shape is None else tuple(entry.shape))
