"""``graphwright export``: a PyTorch module or a Hugging Face folder as an .onnx file."""

from __future__ import annotations

from pathlib import Path

import click

from .arguments import find_model, inputs_option, json_option, model_argument, read_samples
from .console import print_json, progress


@click.command()
@model_argument
@click.option("-o", "--output", "path", required=True, metavar="FILE.onnx", help="Where the model goes; large weights go into FILE.onnx.data beside it.")
@inputs_option
@json_option
def command(model: str, path: str, inputs: tuple[str, ...], as_json: bool) -> None:
    """Write MODEL as an .onnx file, as it is: nothing is rewritten.

    MODEL is a Hugging Face folder, or file.py:name for a PyTorch module (or a function that gives a module and its example inputs).
    """
    with progress() as tell:
        source, examples = find_model(model)
        given = read_samples(inputs)
        tell("exporting")
        from ..compiler.census import census
        from ..compiler.importer import import_model
        from ..compiler.serialize import save_model

        imported = import_model(source, given if given is not None else examples)
        files = save_model(imported.model, Path(path))
    found = census(imported.model)
    if as_json:
        print_json({"files": [str(file) for file in files], "model": found.model_dump(mode="json")})
    else:
        print(f"{found.nodes} nodes, opset {found.opset}, {found.weight_bytes / 2**20:.2f} MiB of weights; written to {path}")
