"""``graphwright diff``: what two models compute and consist of, compared."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .arguments import find_model, inputs_option, json_option, plain_numbers, read_samples
from .console import output, print_json, progress

if TYPE_CHECKING:
    from ..compiler.difference import ModelDifference

SHOWN = 20


@click.command()
@click.argument("first")
@click.argument("second")
@inputs_option
@click.option("--exact", is_flag=True, help="Ask for the same bits; otherwise floats may differ by rounding.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the generated inputs.")
@json_option
def command(first: str, second: str, inputs: tuple[str, ...], exact: bool, seed: int, as_json: bool) -> int:
    """Compare two models: run both on the same inputs with the runtime's optimisations off, and list what is different in their graphs.

    Exit code 0: they compute the same; 1: they do not, or cannot be compared.
    """
    with progress() as tell:
        from ..compiler.difference import compare_models
        from ..compiler.importer import import_model
        from ..compiler.targets import find_backend

        one, other = (import_model(model_file(name)).model for name in (first, second))
        found = compare_models(one, other, read_samples(inputs) or (), find_backend("onnx"), exact=exact, seed=seed, progress=tell)
    if as_json:
        print_json(
            {
                **{name: plain_numbers(item) for name, item in dataclasses.asdict(found).items()},
                "same_numbers": found.same_numbers,
                "same_structure": found.same_structure,
            }
        )
    else:
        _show(found)
    return 0 if found.same_numbers else 1


def model_file(text: str) -> object:
    """A model as named on the command line; an artifact folder means the model in it."""
    source, _ = find_model(text)
    if isinstance(source, Path) and (source / "manifest.json").is_file():
        return source / "model.onnx"
    return source


def _show(found: ModelDifference) -> None:
    from rich.markup import escape

    console = output()
    for line in found.signature:
        console.print(escape(line), highlight=False, soft_wrap=True)
    if found.opsets[0] != found.opsets[1]:
        console.print(f"opset {found.opsets[0]} became {found.opsets[1]}", highlight=False)
    for name, (before, after) in found.operators.items():
        console.print(f"{escape(name)}: {before} -> {after}", highlight=False)
    for name, reason in list(found.weights.items())[:SHOWN]:
        console.print(f"weight '{escape(name)}': {escape(reason)}", highlight=False, soft_wrap=True)
    if len(found.weights) > SHOWN:
        console.print(f"and {len(found.weights) - SHOWN} more weights; --json lists them", highlight=False)
    console.print(escape(_numbers(found)), highlight=False, soft_wrap=True, style="bold")


def _numbers(found: ModelDifference) -> str:
    worst = found.numbers
    if worst is None:
        return "not run: the inputs or outputs are not the same"
    if worst.broken:
        where = f"output '{worst.output}' at {list(worst.index)}, sample {worst.sample}"
        reason = worst.reason or f"{worst.before:.7g} and {worst.after:.7g}, {worst.allowed:.2g} is allowed"
        return f"different: {reason} ({where})"
    if worst.max_abs == 0:
        return f"the same bits on {found.samples} inputs"
    return f"the same within rounding on {found.samples} inputs: {worst.max_abs:.2g} of {worst.allowed:.2g} allowed (output '{worst.output}')"
