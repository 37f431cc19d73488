"""An artifact of several parts as files: the whole model, one folder for each part, and run.py."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..core.backend import Backend, Built, Runner
from ..core.errors import ArtifactError
from ..serialize import save_model
from .cut import Part
from .layout import Layout
from .program import program
from .runner import GuardedRunner, PartsRunner, steps_of

__all__ = ["BuiltParts", "open_parts", "write_parts"]

MODEL = "model.onnx"
RUN = "run.py"
PLAIN = "ort-cpu"
"""The target whose parts are model files."""


@dataclass
class BuiltParts(Built):
    """A model ready to run in parts, each with what its backend made of it."""

    parts: tuple[tuple[Part, Built], ...] = field(default=())


def write_parts(built: BuiltParts, layout: Layout, find: Callable[[str], Backend], folder: Path) -> tuple[Path, ...]:
    """Write everything into ``folder``; returns the files. Raises ArtifactError when the disk refuses."""
    files = list(save_model(built.model, folder / MODEL))
    for entry, (part, made) in zip(layout.parts, built.parts, strict=True):
        place = folder / entry.folder
        try:
            place.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ArtifactError(f"'{place}' cannot be made: {error.strerror}") from error
        files += save_model(part.model, place / MODEL) if part.place == PLAIN else find(part.place).package(made, place)
    try:
        (folder / RUN).write_text(program(layout), encoding="utf-8")
    except OSError as error:
        raise ArtifactError(f"'{folder / RUN}' cannot be written: {error.strerror}") from error
    return (*files, folder / RUN)


def open_parts(layout: Layout, find: Callable[[str], Backend], folder: Path) -> Runner:
    """Run what `write_parts` wrote. Raises ArtifactError when a file is missing, BackendMissing when a part's backend is."""
    runners: list[Runner] = []
    try:
        for entry in layout.parts:
            runners.append(find(entry.place).load(folder / entry.folder, entry.options))
    except BaseException:
        for runner in runners:
            runner.close()
        raise
    return guarded(layout, runners, lambda: find(PLAIN).load(folder, layout.whole))


def guarded(layout: Layout, runners: Sequence[Runner], open_whole: Callable[[], Runner]) -> GuardedRunner:
    """The runners of a layout's parts as one; other sizes than theirs go to the whole model."""
    inputs, outputs = layout.ports()
    steps = steps_of(runners, [entry.needs for entry in layout.parts], [port.name for port in outputs])
    return GuardedRunner(PartsRunner(inputs, outputs, steps), open_whole, layout.wanted())
