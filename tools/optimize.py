"""``graphwright optimize``: only the graph, nothing timed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .arguments import find_model, graph_request, json_option, model_argument, pipeline_options, plain_entries, target_choice
from .console import output, print_json, progress


@click.command()
@model_argument
@click.option("-o", "--output", "path", required=True, metavar="FILE.onnx", help="Where the model goes; large weights go into FILE.onnx.data beside it.")
@target_choice("onnx")
@pipeline_options
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the generated inputs.")
@json_option
def command(model: str, path: str, as_json: bool, **options: Any) -> None:
    """Rewrite the graph of MODEL, check it once against MODEL on generated inputs, and write it to a file."""
    source, _ = find_model(model)
    with progress() as tell:
        from ..compiler.census import census
        from ..compiler.driver import optimize_model
        from ..compiler.report import pass_entries
        from ..compiler.serialize import save_model

        done = optimize_model(source, graph_request(options, tell))
        tell(f"writing {path}")
        files = save_model(done.model, Path(path))
    before, after, passes = census(done.source), census(done.model), pass_entries(done.records)
    if as_json:
        found = {"before": before, "after": after, "passes": passes}
        print_json({"files": [str(file) for file in files], "recipe": done.recipe, "verified": done.verified, **plain_entries(found)})
        return
    from ..compiler.report_table import describe_size, pass_table, undone_lines

    console = output()
    console.print(pass_table(passes))
    for line in undone_lines([entry for step in passes for entry in step.rolled_back]):
        console.print(line, highlight=False, soft_wrap=True)
    console.print(f"{describe_size(before, after)}; written to {path}", highlight=False, soft_wrap=True)
