"""Artifact folders on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..compiler.core.errors import UsageError

MODEL = "model.onnx"
MEBIBYTE = 2**20


def is_artifact(source: object) -> bool:
    """Whether a path is a folder that ``graphwright compile`` wrote."""
    from ..compiler.manifest import MANIFEST

    return isinstance(source, Path) and (source / MANIFEST).is_file()


def is_code(source: object) -> bool:
    """Whether an artifact holds compiled code instead of a model file."""
    return isinstance(source, Path) and is_artifact(source) and not (source / MODEL).is_file()


def model_in(source: Any) -> Any:
    """The model file of an artifact; anything else as it is. Raises UsageError for an artifact of compiled code."""
    from ..compiler.manifest import read_manifest

    if is_code(source):
        target = read_manifest(source).target.name
        raise UsageError(f"'{source}' holds code for {target} and no {MODEL}: its operators can no longer be told; name the model it was made of")
    return source / MODEL if is_artifact(source) else source


def refuse_far(folder: Path) -> None:
    """Raise UsageError when an artifact's device is not this machine, so that there is nothing to time."""
    from ..compiler.manifest import read_manifest
    from ..compiler.targets import find_target

    target = find_target(read_manifest(folder).target.name)
    if not target.is_here:
        raise UsageError(f"'{folder}' is for {target.device}, which this machine is not: only the device tells how fast it is (there: ./run -r 100)")


def describe_code(folder: Path) -> dict[str, Any]:
    """An artifact of compiled code, as JSON."""
    from ..compiler.manifest import read_manifest

    manifest = read_manifest(folder)
    ports = {kind: [{"name": port.name, "type": port.dtype, "shape": port.shape} for port in getattr(manifest, kind)] for kind in ("inputs", "outputs")}
    return {**ports, "artifact": manifest.model_dump(mode="json")}


def show_code(title: str, found: dict[str, Any]) -> None:
    """Print it for people."""
    from rich.markup import escape
    from rich.table import Table

    from .console import output

    console, artifact = output(), found["artifact"]
    chosen = ", ".join(f"{name} {value}" for name, value in artifact["options"].items() if value not in ("", [], None))
    console.print(f"[bold]{escape(title)}[/]: compiled for {escape(artifact['target']['name'])} ({escape(chosen)})", highlight=False)
    ports = Table("", "name", "type", "shape", box=None, pad_edge=False, header_style="bold")
    for kind in ("inputs", "outputs"):
        for port in found[kind]:
            ports.add_row(kind[:-1], escape(port["name"]), escape(port["type"]), escape(str(port["shape"])))
    console.print(ports)
    for name, entry in artifact["files"].items():
        console.print(f"    {escape(name)}  {entry['bytes'] / MEBIBYTE:.2f} MiB", highlight=False)
