"""The artifact: a compiled model that is called like the one it came from, and saved as a folder to deploy."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from . import nesting, tensors
from .atomic import hold, new_folder, recover, release
from .core.backend import Array, Backend, Built, Runner, Sample
from .core.errors import ArtifactError, InputError
from .manifest import Manifest, read_manifest, refuse_foreign, verify_files, write_manifest
from .report import Report
from .report_html import render

REPORT = "report.json"
PAGE = "report.html"


class Artifact:
    """A compiled model.

    Call it with the inputs of the model it came from: torch tensors in, torch tensors out; arrays in, arrays out; outputs nest as that model's did.
    """

    def __init__(
        self,
        manifest: Manifest,
        report: Report,
        fill: Callable[[Path], Sequence[str]],
        open_runner: Callable[[], Runner],
        *,
        restore: Callable[[list[Any]], object] | None = None,
        arrange: Callable[..., Sample] | None = None,
        lease: int | None = None,
    ) -> None:
        self.manifest = manifest
        self.report = report
        self._fill = fill
        self._open_runner = open_runner
        self._runner: Runner | None = None
        self._restore = restore
        self._arrange = arrange
        self._lease = lease

    def __repr__(self) -> str:
        inputs = ", ".join(port.name for port in self.manifest.inputs)
        outputs = ", ".join(port.name for port in self.manifest.outputs)
        return f"<Artifact {self.report.model}: ({inputs}) -> ({outputs}) for {self.manifest.target.name}>"

    def __call__(self, *inputs: object, **named: object) -> object:
        """The outputs for these inputs, in the form the model it came from gave them."""
        leaves = list(nesting.flatten([inputs, named]))
        device = tensors.device_of(leaves)
        results = self.run(self._feeds(inputs, named))
        values: list[object] = list(results.values())
        if device is not None:
            values = [tensors.to_torch(value, device) for value in values]
        return self._nest(values)

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """All outputs by name. Raises InputError when the feeds do not fit the model's inputs."""
        return self.runner.run(feeds)

    @property
    def runner(self) -> Runner:
        """What runs the model; opened at first use."""
        if self._runner is None:
            self._runner = self._open_runner()
        return self._runner

    def shaped_like(self, restore: Callable[[list[Any]], object] | None, arrange: Callable[..., Sample] | None) -> Artifact:
        """This artifact, answering to the calls and in the form of the model that these come from."""
        self._restore = restore if restore is not None else self._restore
        self._arrange = arrange if arrange is not None else self._arrange
        return self

    def save(self, folder: str | Path, report: Report | None = None) -> Path:
        """Write the artifact as a folder, whole or not at all; an artifact already there is replaced. Raises ArtifactError with the reason.

        ``report`` is written instead of the artifact's own.
        """
        target = Path(folder)
        recover(target.resolve())
        refuse_foreign(target)
        with new_folder(target) as draft:
            left_out = self._fill(draft)
            self.report = _noted(self.report, left_out)
            written = self.report if report is None else _noted(report, left_out)
            (draft / REPORT).write_text(written.to_json(), encoding="utf-8")
            (draft / PAGE).write_text(render(written), encoding="utf-8")
            write_manifest(draft, self.manifest)
        return target

    def close(self) -> None:
        """Free memory and threads."""
        if self._runner is not None:
            self._runner.close()
            self._runner = None
        release(self._lease)
        self._lease = None

    def __enter__(self) -> Artifact:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_lease", None) is not None:
            release(self._lease)

    def _feeds(self, inputs: tuple[object, ...], named: dict[str, object]) -> Sample:
        if self._arrange is not None:
            args, kwargs = map(_as_array, inputs), {name: _as_array(value) for name, value in named.items()}
            return tensors.sample_to_numpy(self._arrange(*args, **kwargs))
        names = [port.name for port in self.manifest.inputs]
        given = list(nesting.flatten(inputs))
        if len(given) > len(names):
            raise InputError(f"the model has {len(names)} inputs ({', '.join(names)}), but {len(given)} were given")
        feeds = dict(zip(names, given, strict=False))
        for name, value in named.items():
            if name not in names:
                raise InputError(f"the model has no input '{name}'; it has: {', '.join(names)}")
            if name in feeds:
                raise InputError(f"the input '{name}' was given twice, by position and by name")
            feeds[name] = value
        return tensors.sample_to_numpy(feeds)

    def _nest(self, values: list[object]) -> object:
        if self._restore is not None:
            return self._restore(values)
        if self.manifest.structure is not None:
            return nesting.rebuild(self.manifest.structure, values)
        return values[0] if len(values) == 1 else tuple(values)


def _as_array(value: object) -> object:
    """A numpy number as the array of one element that a model takes."""
    return np.asarray(value) if isinstance(value, np.generic) else value


def from_built(
    built: Built,
    backend: Backend,
    manifest: Manifest,
    report: Report,
    *,
    restore: Callable[[list[Any]], object] | None = None,
    arrange: Callable[..., Sample] | None = None,
) -> Artifact:
    """An artifact of a model that was just built."""

    def fill(folder: Path) -> Sequence[str]:
        backend.package(built, folder)
        return getattr(built, "notes", ())

    return Artifact(manifest, report, fill, lambda: built.runner, restore=restore, arrange=arrange)


def load_artifact(folder: str | Path, find_backend: Callable[[str], Backend]) -> Artifact:
    """An artifact from the folder it was saved to. Raises ArtifactError when a file is missing or is not what was written."""
    source = Path(folder).resolve()
    recover(source)
    manifest = read_manifest(source)
    verify_files(source, manifest)
    report = _read_report(source)
    lease = hold(source, exclusive=False)

    def fill(draft: Path) -> Sequence[str]:
        verify_files(source, manifest)
        for name in manifest.files:
            (draft / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source / name, draft / name)  # with its mode: a program stays one
        return ()

    return Artifact(manifest, report, fill, lambda: find_backend(manifest.target.name).load(source, manifest.options), lease=lease)


def _noted(report: Report, left_out: Sequence[str]) -> Report:
    """The report, saying what the package does without."""
    return report.model_copy(update={"notes": [*dict.fromkeys([*report.notes, *left_out])]})


def _read_report(folder: Path) -> Report:
    try:
        return Report.model_validate_json((folder / REPORT).read_bytes())
    except (OSError, ValidationError) as error:
        raise ArtifactError(f"'{folder / REPORT}' cannot be read: {str(error).splitlines()[0]}. Compile again.") from error
