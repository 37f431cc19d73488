"""The manifest of an artifact folder: what is in it, what made it, and the hash of every file."""

from __future__ import annotations

import hashlib
import importlib.metadata
import platform
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from pydantic import BaseModel, ConfigDict, ValidationError

from .core.backend import Port
from .core.errors import ArtifactError
from .core.target import Target
from .report import PortEntry

MANIFEST = "manifest.json"
KIND = "graphwright-artifact"
FORMAT = 1
TRACKED_PACKAGES = ("numpy", "onnx", "onnx-ir", "onnxruntime", "onnxruntime-gpu", "apache-tvm", "apache-tvm-ffi")
NOT_OURS_BUT_HARMLESS = {"__pycache__", ".DS_Store", "Thumbs.db", MANIFEST}


class Section(BaseModel):
    """A part of the manifest."""

    model_config = ConfigDict(extra="ignore", frozen=True, ser_json_inf_nan="strings", protected_namespaces=())


class FileEntry(Section):
    """One file: its size and SHA-256."""

    bytes: int
    sha256: str


class TargetEntry(Section):
    """What the artifact was compiled for."""

    name: str
    backend: str
    device: str


class Manifest(Section):
    """``manifest.json``. ``structure`` is how the outputs nest (see `compiler.nesting`); ``options`` are the backend's, chosen by measuring."""

    kind: str = KIND
    format: int = FORMAT
    graphwright: str
    versions: dict[str, str]
    target: TargetEntry
    level: str
    precision: str
    recipe: str
    seeds: dict[str, int]
    inputs: list[PortEntry]
    outputs: list[PortEntry]
    structure: object = None
    options: dict[str, object] = {}
    files: dict[str, FileEntry] = {}


def versions() -> dict[str, str]:
    """Versions of everything that shapes an artifact."""
    found = {"python": platform.python_version()}
    for package in TRACKED_PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def own_version() -> str:
    """The version of graphwright."""
    return importlib.metadata.version("graphwright")


def target_entry(target: Target) -> TargetEntry:
    """A target as the manifest names it."""
    return TargetEntry(name=target.name, backend=target.backend, device=target.device)


def port_entries(ports: Iterable[Port]) -> list[PortEntry]:
    """Inputs or outputs as the manifest and the report name them."""
    return [PortEntry(name=port.name, dtype=port.dtype, shape=None if port.shape is None else list(port.shape)) for port in ports]


def hash_files(folder: Path) -> dict[str, FileEntry]:
    """Every file below ``folder`` but the manifest, by relative name with forward slashes."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / MANIFEST)
    return {path.relative_to(folder).as_posix(): FileEntry(bytes=path.stat().st_size, sha256=sha256(path)) for path in paths}


def sha256(path: Path) -> str:
    """The hash of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_manifest(folder: Path, manifest: Manifest) -> Manifest:
    """Hash everything in ``folder`` and write its manifest; returns the manifest with its files."""
    complete = manifest.model_copy(update={"files": hash_files(folder)})
    (folder / MANIFEST).write_text(complete.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return complete


def read_manifest(folder: Path) -> Manifest:
    """The manifest of an artifact folder. Raises ArtifactError when there is none or it cannot be read."""
    if not folder.exists():
        raise ArtifactError(f"there is no artifact at '{folder}': the folder does not exist")
    if not folder.is_dir():
        raise ArtifactError(f"'{folder}' is a file, not an artifact folder; give the folder that 'graphwright compile -o' wrote")
    path = folder / MANIFEST
    if not path.is_file():
        raise ArtifactError(f"'{folder}' is not an artifact: it has no {MANIFEST}")
    try:
        manifest = Manifest.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "the file"
        raise ArtifactError(f"'{path}' cannot be read: {first['msg']} ({place}). Compile again.") from error
    if manifest.kind != KIND or manifest.format != FORMAT:
        raise ArtifactError(f"'{path}' is {manifest.kind} format {manifest.format}; this version reads {KIND} format {FORMAT}. Compile again.")
    return manifest


def verify_files(folder: Path, manifest: Manifest) -> None:
    """Raise ArtifactError naming the first file that is missing, outside the folder, or not what was written."""
    for name, entry in manifest.files.items():
        relative = PurePosixPath(name)
        if relative.is_absolute() or ".." in relative.parts:
            raise ArtifactError(f"the manifest of '{folder}' names '{name}', which is outside the folder; do not use this artifact")
        path = folder / relative
        if not path.is_file():
            raise ArtifactError(f"'{path}' is missing; the artifact is not complete. Copy the whole folder or compile again.")
        found = sha256(path)
        if path.stat().st_size != entry.bytes or found != entry.sha256:
            raise ArtifactError(f"'{path}' is not the file that was written: SHA-256 is {found[:12]}…, the manifest says {entry.sha256[:12]}…. Compile again.")


def refuse_foreign(folder: Path) -> None:
    """Raise ArtifactError unless ``folder`` may be replaced: it does not exist, is empty, or holds one of our artifacts and nothing else."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not (folder / MANIFEST).is_file():
        raise ArtifactError(f"'{folder}' holds other files and is not an artifact, so it is not replaced. Choose another folder or empty it.")
    known = set(read_manifest(folder).files)
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and name not in known and not NOT_OURS_BUT_HARMLESS.intersection(path.relative_to(folder).parts):
            raise ArtifactError(f"'{folder}' holds '{name}', which is not part of the artifact there, so it is not replaced. Move it away first.")
