"""The session options that are chosen by measuring, as data."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, TypeVar, cast, get_args

import onnxruntime as ort

from ...compiler.core.errors import ArtifactError

Level = Literal["off", "basic", "extended", "all"]
LEVELS: dict[Level, ort.GraphOptimizationLevel] = {
    "off": ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
    "basic": ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "extended": ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "all": ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
}
Provider = str | tuple[str, dict[str, str]]
"""An execution provider of ONNX Runtime, with its own options."""
ERRORS_ONLY_FATAL = 4
"""ONNX Runtime logs what it also raises; the exception is enough."""


@dataclass(frozen=True)
class Options:
    """How ONNX Runtime runs a model; the defaults are its own, except for ``spinning``.

    ``threads`` inside one operator, 0 for as many as there are cores. ``without`` names graph optimizers of ONNX Runtime that are left out.
    ``spinning`` lets threads burn their core between two runs, waiting for the next; it slows whatever else runs, such as the other model of a comparison.
    During a run they wait at full speed either way: sleeping between operators costs up to half of the speed.
    """

    device: ClassVar[str] = "cpu"
    choices: ClassVar[dict[str, tuple[str, ...]]] = {"level": get_args(Level)}

    level: Level = "all"
    threads: int = 0
    arena: bool = True
    prepacking: bool = True
    spinning: bool = False
    without: tuple[str, ...] = ()

    def session_options(self) -> ort.SessionOptions:
        """The same for ONNX Runtime."""
        options = ort.SessionOptions()
        options.log_severity_level = ERRORS_ONLY_FATAL
        options.graph_optimization_level = LEVELS[self.level]
        options.intra_op_num_threads = self.threads
        options.enable_cpu_mem_arena = self.arena
        for key, value in self.entries().items():
            options.add_session_config_entry(key, value)
        return options

    def providers(self) -> list[Provider]:
        """What runs the operators, in order of preference."""
        return ["CPUExecutionProvider"]

    @property
    def place(self) -> tuple[str, int]:
        """Where buffers lie: a kind of device, and which of them."""
        return "cpu", 0

    def missing(self) -> str:
        """Why this installation cannot run with these options, in one sentence; "" when it can."""
        return ""

    def entries(self) -> dict[str, str]:
        """What differs from ONNX Runtime's defaults among its named configuration entries."""
        entries = {}
        if not self.spinning:
            entries["session.force_spinning_stop"] = "1"
        if not self.prepacking:
            entries["session.disable_prepacking"] = "1"
        if self.without:
            entries["optimization.disable_specified_optimizers"] = ";".join(self.without)
        return entries

    def to_dict(self) -> dict[str, object]:
        """For a manifest; `read_options` reads it back."""
        return {**dataclasses.asdict(self), "without": list(self.without)}


REFERENCE = Options(level="off")
"""Every optimisation off: what the model means."""
DEFAULT = Options()
"""What everybody has who does not choose."""


Kind = TypeVar("Kind", bound=Options)


def read_options(stored: Mapping[str, object]) -> Options:
    """Options from `Options.to_dict`. Raises ArtifactError naming an option that does not exist or fit."""
    return read_kind(Options, stored)


def read_kind(kind: type[Kind], stored: Mapping[str, object]) -> Kind:
    """`read_options` for those of a device."""
    fields = {field.name: field.default for field in dataclasses.fields(kind)}
    values: dict[str, object] = {}
    for name, value in stored.items():
        if name not in fields:
            raise ArtifactError(f"there is no session option '{name}'; there are: {', '.join(fields)}")
        values[name] = _checked(name, value, fields[name], kind.choices.get(name, ()))
    return kind(**values)  # type: ignore[arg-type]


def _checked(name: str, value: object, default: object, choices: tuple[str, ...]) -> object:
    if name == "without" and isinstance(value, (list, tuple)) and all(isinstance(one, str) for one in value):
        return tuple(cast("list[str]", value))
    if value in choices:
        return value
    if name != "without" and not choices and type(value) is type(default) and (not isinstance(value, int) or value >= 0):
        return value
    raise ArtifactError(f"the session option '{name}' cannot be {value!r}")
