"""``graphwright inspect``: what a model or an artifact is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..compiler.core.errors import UsageError
from .arguments import find_model, json_option, model_argument
from .artifacts import describe_code, is_artifact, is_code, model_in, show_code
from .console import output, print_json, progress

if TYPE_CHECKING:
    import onnx_ir as ir

LARGEST_SHOWN = 5
MEBIBYTE = 2**20


@click.command()
@model_argument
@click.option("--plan", "picture", metavar="FILE.svg", help="Draw the fusion plan of MODEL as it stands: a box for each kernel.")
@click.option("--deep", is_flag=True, help="Let the plan join products with what works on their rows or channels, tile by tile (Deep-Fusion).")
@json_option
def command(model: str, picture: str | None, deep: bool, as_json: bool) -> None:
    """Show inputs, outputs, dimensions, operators and weights of MODEL: an .onnx file, a Hugging Face folder, file.py:name, or an artifact folder."""
    if deep and picture is None:
        raise UsageError("--deep says how to plan: give --plan FILE.svg too")
    with progress() as tell:
        tell("reading")
        found = _describe(model)
        if picture is not None:
            tell("planning blocks")
            found["plan"] = _draw(model, Path(picture), deep)
    print_json(found) if as_json else _show(model, found)


def _draw(model: str, path: Path, deep: bool) -> dict[str, object]:
    """Write the picture; returns the plan as JSON has it."""
    from ..compiler.atomic import write_file
    from ..compiler.core.planning.plan import Constraints
    from ..compiler.plan_drawing import draw
    from ..compiler.plan_report import plan_as_it_stands

    source, examples = find_model(model)
    report = plan_as_it_stands(model_in(source), examples, Constraints(deep=deep))
    write_file(path, draw(report).encode())
    return {"picture": str(path), "summary": report.summary(), **report.entries()}


def _describe(model: str) -> dict[str, Any]:
    from ..compiler.census import census, symbols
    from ..compiler.importer import import_model
    from ..compiler.manifest import read_manifest

    source, examples = find_model(model)
    if is_code(source):
        return describe_code(Path(str(source)))
    found: dict[str, Any] = {}
    if is_artifact(source):
        found["artifact"] = read_manifest(Path(str(source))).model_dump(mode="json")
    imported = import_model(model_in(source), examples).model
    counted = census(imported)
    return {
        "inputs": [_port(value) for value in imported.graph.inputs],
        "outputs": [_port(value) for value in imported.graph.outputs],
        "opsets": {domain or "ai.onnx": version for domain, version in imported.graph.opset_imports.items()},
        "ir_version": imported.ir_version,
        "producer": " ".join(filter(None, (imported.producer_name, imported.producer_version))),
        "nodes": counted.nodes,
        "operators": dict(sorted(counted.operators.items(), key=lambda item: (-item[1], item[0]))),
        "functions": [f"{function.domain}::{function.name}" for function in imported.functions.values()],
        "dimensions": symbols(imported),
        "weight_bytes": counted.weight_bytes,
        "weights": _weights(imported),
        **found,
    }


def _port(value: ir.Value) -> dict[str, object]:
    shape = None if value.shape is None else [dim if isinstance(dim, int) else dim.value for dim in value.shape]
    return {"name": value.name, "type": str(value.type) if value.type is not None else None, "shape": shape, "overridable": value.is_initializer()}


def _weights(model: ir.Model) -> list[dict[str, object]]:
    from ..compiler.core.graph import all_graphs

    tensors = [(name, value.const_value) for graph in all_graphs(model) for name, value in graph.initializers.items() if value.const_value is not None]
    largest = sorted(tensors, key=lambda item: -item[1].nbytes)
    return [{"name": name, "dtype": tensor.dtype.name, "shape": list(tensor.shape), "bytes": tensor.nbytes} for name, tensor in largest]


def _show(title: str, found: dict[str, Any]) -> None:
    if "nodes" not in found:
        show_code(title, found)
        return
    from rich.markup import escape
    from rich.table import Table

    console = output()
    opsets = ", ".join(f"{domain} {version}" for domain, version in found["opsets"].items())
    producer = f", made by {found['producer']}" if found["producer"] else ""
    console.print(f"[bold]{escape(title)}[/]: {found['nodes']} nodes, opset {escape(opsets)}, IR {found['ir_version']}{escape(producer)}", highlight=False)
    if "artifact" in found:
        artifact = found["artifact"]
        console.print(escape(f"artifact for {artifact['target']['name']}, recipe {artifact['recipe'] or '(the input as it is)'}"), highlight=False)
    ports = Table("", "name", "type", "shape", box=None, pad_edge=False, header_style="bold")
    for kind in ("inputs", "outputs"):
        for port in found[kind]:
            ports.add_row(kind[:-1], escape(port["name"] or ""), escape(port["type"] or "unknown"), escape(str(port["shape"])))
    console.print(ports)
    for name, places in found["dimensions"].items():
        console.print(f"dimension {escape(name)}: {escape(', '.join(places))}", highlight=False)
    operators = ", ".join(f"{name} {count}" for name, count in found["operators"].items())
    console.print(f"operators: {escape(operators)}", highlight=False, soft_wrap=True)
    console.print(f"weights: {found['weight_bytes'] / MEBIBYTE:.2f} MiB in {len(found['weights'])} tensors", highlight=False)
    for weight in found["weights"][:LARGEST_SHOWN]:
        console.print(f"    {escape(weight['name'])}  {weight['dtype']} {weight['shape']}  {weight['bytes'] / MEBIBYTE:.2f} MiB", highlight=False)
    if "plan" in found:
        console.print(f"plan: {escape(found['plan']['summary'])}; drawn in {escape(found['plan']['picture'])}", highlight=False, soft_wrap=True)
