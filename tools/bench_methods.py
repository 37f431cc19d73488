"""``graphwright bench methods``: methods of quantisation against each other on one model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from .arguments import find_model, json_option, model_argument, preprocess_option
from .console import output, print_json, progress

if TYPE_CHECKING:
    from ..compiler.method_run import MethodTable
    from ..compiler.method_verdict import Line


@click.command(name="methods")
@model_argument
@click.option("--calibration", multiple=True, required=True, metavar="DATA", help="What methods are fitted on: .npz files, a folder, a text file, or 'random'.")
@click.option("--held-out", multiple=True, metavar="DATA", help="What they are judged on. Without it: every fourth calibration sample, kept back.")
@preprocess_option
@click.option("--method", "methods", multiple=True, metavar="NAME", help="Only this method. Repeatable.")
@click.option("--bits", default="8,4,3,2", show_default=True, metavar="LIST", help="Widths of the weights.")
@click.option("--inputs-bits", default="", metavar="LIST", help="Widths of the inputs, for methods that round both sides: 8 or 8,4.")
@click.option("--block", type=click.IntRange(-1), default=0, show_default=True, help="Input channels that share a scale; 0 a whole column, -1 all.")
@click.option("--asymmetric", is_flag=True, help="Weights have zero points.")
@click.option("--per-token", is_flag=True, help="Every row of an input has a scale of its own, taken when it comes.")
@click.option("--sites", type=click.IntRange(1), metavar="N", help="Only so many sites, evenly spread over the model.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of what is drawn.")
@json_option
def methods_command(
    model: str, calibration: tuple[str, ...], held_out: tuple[str, ...], preprocess: str | None, methods: tuple[str, ...], bits: str, inputs_bits: str,
    block: int, asymmetric: bool, per_token: bool, sites: int | None, seed: int, as_json: bool,
) -> None:  # fmt: skip
    """Quantise the sites of MODEL with every method, and show how far each moves their outputs on samples that it was not fitted on.

    E is the error of a site's output by its size, the geometric mean over all sites. "beats" says whether it is lower than that of the method which it
    refines, at equal stored bits, and on how many sites.
    """
    with progress() as tell:
        from ..compiler.method_run import MethodRequest, bench_methods

        source, examples = find_model(model)
        request = MethodRequest(
            list(calibration), list(held_out) or None, preprocess, methods, _widths(bits, "--bits"), _widths(inputs_bits, "--inputs-bits"),
            block, not asymmetric, per_token, sites, seed, tell,
        )  # fmt: skip
        table = bench_methods(source, request, examples)
    if as_json:
        print_json(_record(table))
    else:
        _show(table)


def _widths(text: str, option: str) -> tuple[int, ...]:
    parts = [part.strip() for part in text.split(",") if part.strip()]
    wrong = [part for part in parts if not part.isdigit() or int(part) == 0]
    if wrong:
        raise click.BadParameter(f"'{wrong[0]}' is no number of bits: give a list such as 8,4,3", param_hint=option)
    return tuple(dict.fromkeys(map(int, parts)))


def _record(table: MethodTable) -> dict[str, object]:
    lines = [
        {
            "method": line.method, "width": line.width, "bits": line.bits, "inputs_bits": line.inputs, "error": _number(line.error),
            "bits_per_weight": _number(line.stored),
            "refines": line.refines, "ratio": _number(line.ratio), "ratio_low": _number(line.low), "ratio_high": _number(line.high),
            "ratio_on_same_grid": _number(line.same_grid), "beats": line.beats,
            "won": line.won, "compared": line.compared, "sites": line.sites, "seconds": line.seconds, "refused": list(line.refused),
        }
        for line in table.lines
    ]  # fmt: skip
    trials = [
        {
            "site": trial.site, "method": trial.method, "bits": trial.bits, "inputs_bits": trial.inputs, "error": _number(trial.error),
            "bits_per_weight": _number(trial.stored), "reference": _number(trial.reference), "refused": trial.refused or None,
        }
        for trial in table.trials
    ]  # fmt: skip
    found = [{"method": one.method, "refines": one.refines, "beats": list(one.beats), "loses": list(one.loses)} for one in table.verdicts]
    return {"data": table.data, "methods": lines, "verdicts": found, "trials": trials}


def _number(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _show(table: MethodTable) -> None:
    from rich.markup import escape
    from rich.table import Table

    console = output()
    console.print(escape(table.data), highlight=False)
    shown = Table("method", "width", "E", "bits/weight", "refines", "E by its E", "beats", "s", box=None, pad_edge=False, header_style="bold")
    for line in table.lines:
        if line.sites:
            shown.add_row(*_cells(line))
    console.print(shown)
    for text in _refusals(table.lines):
        console.print(escape(text), highlight=False)
    for one in table.verdicts:
        if one.loses:
            console.print(f"{one.method} does not beat {one.refines} at {', '.join(one.loses)}", highlight=False)


def _cells(line: Line) -> list[str]:
    verdict = "" if line.beats is None else f"{'yes' if line.beats else 'no'} ({line.won} of {line.compared} sites)"
    ratio = "" if line.ratio is None else f"{line.ratio:.3f} ({line.low:.3f} to {line.high:.3f})"
    return [line.method, line.width, f"{line.error:.3g}", f"{line.stored:.2f}", line.refines or "", ratio, verdict, f"{line.seconds:.1f}"]


def _refusals(lines: Sequence[Line]) -> list[str]:
    """Why methods did not take sites, each reason once with the widths it holds at."""
    found: dict[tuple[str, str], list[str]] = {}
    for line in lines:
        for reason in line.refused:
            found.setdefault((line.method, reason), []).append(line.width)
    return [f"{method} at {', '.join(widths)}: {reason}" for (method, reason), widths in found.items()]
