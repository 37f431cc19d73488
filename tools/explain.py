"""``graphwright explain``: why a rule did not fire."""

from __future__ import annotations

from typing import Any

import click

from .arguments import find_model, graph_request, json_option, model_argument, pipeline_options, target_option
from .console import output, print_json, progress

SHOWN = 10


@click.command()
@model_argument
@click.option("--rule", required=True, help="The rule that was expected to fire.")
@target_option
@pipeline_options
@click.option("--all", "everything", is_flag=True, help=f"Show every place, not only the {SHOWN} nearest matches.")
@json_option
def command(model: str, rule: str, everything: bool, as_json: bool, **options: Any) -> None:
    """Show how often a rule fires in MODEL, and where it nearly did: the nearest matches with the reason that stopped each."""
    source, _ = find_model(model)
    with progress() as tell:
        from ..compiler.explain import explain

        found = explain(source, rule, graph_request(options, tell))
    shown = found.misses if everything else found.misses[:SHOWN]
    if as_json:
        misses = [{"where": miss.where, "depth": miss.depth, "reason": miss.reason} for miss in shown]
        print_json({"rule": rule, "fired": found.fired, "places": len(found.misses), "misses": misses})
        return
    from rich.markup import escape

    console = output()
    console.print(f"[bold]{escape(rule)}[/] fired {found.fired} times and nearly fired at {len(found.misses)} places", highlight=False)
    for miss in shown:
        console.print(f"    {escape(miss.where)}: {escape(miss.reason)} ({miss.depth} nodes matched)", highlight=False, soft_wrap=True)
    if len(shown) < len(found.misses):
        console.print(f"    and {len(found.misses) - len(shown)} more; --all shows them", highlight=False)
