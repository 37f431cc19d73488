"""``graphwright explain``: why rules did not fire."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import click

from .arguments import find_model, graph_request, json_option, model_argument, pipeline_options, target_option
from .console import output, print_json, progress

if TYPE_CHECKING:
    from ..compiler.core.reasons import NearMiss
    from ..compiler.explain import Explained

SHOWN = 10
SHOWN_REASONS = 3
PROMISING = 0.5
"""From what promise on a rule is shown when none was asked for: two nodes of three, or half of a larger pattern."""


@click.command()
@model_argument
@click.option("--rule", help="The rule that was expected to fire; without it, every rule that nearly fired is shown.")
@target_option
@pipeline_options
@click.option("--all", "everything", is_flag=True, help=f"Show every place, not only the {SHOWN} nearest matches, and every rule.")
@json_option
def command(model: str, rule: str | None, everything: bool, as_json: bool, **options: Any) -> None:
    """Show how often rules fire in MODEL, and where they nearly did: the nearest matches with the reason that stopped each."""
    source, _ = find_model(model)
    with progress() as tell:
        from ..compiler.explain import explain, explain_all

        request = graph_request(options, tell)
        found = explain_all(source, request) if rule is None else (explain(source, rule, request),)
    if as_json:
        described = [_describe(item, everything) for item in found]
        print_json(described[0] if rule is not None else {"rules": described})
    elif rule is not None:
        _show_one(found[0], everything)
    else:
        _show_all(found, everything)


def _describe(item: Explained, everything: bool) -> dict[str, object]:
    shown = item.misses if everything else item.misses[:SHOWN]
    return {
        "rule": item.rule,
        "fired": item.fired,
        "places": len(item.misses),
        "promise": round(item.promise, 3),
        "barred": item.barred,
        "misses": [{"where": miss.where, "depth": miss.depth, "reason": miss.reason} for miss in shown],
    }


def _show_one(item: Explained, everything: bool) -> None:
    from rich.markup import escape

    console = output()
    console.print(f"[bold]{escape(item.rule)}[/] fired {item.fired} times and nearly fired at {len(item.misses)} places", highlight=False)
    if item.barred is not None:
        console.print(f"    {escape(item.barred)}", highlight=False, soft_wrap=True)
    shown = item.misses if everything else item.misses[:SHOWN]
    for miss in shown:
        console.print(f"    {escape(miss.where)}: {escape(miss.reason)} ({miss.depth} nodes matched)", highlight=False, soft_wrap=True)
    if len(shown) < len(item.misses):
        console.print(f"    and {len(item.misses) - len(shown)} more; --all shows them", highlight=False)


def _show_all(found: tuple[Explained, ...], everything: bool) -> None:
    from rich.markup import escape

    console = output()
    nearly = [item for item in found if item.misses]
    shown = nearly if everything else [item for item in nearly if item.promise >= PROMISING]
    fired = [f"{item.rule} {item.fired}x" for item in sorted(found, key=lambda item: (-item.fired, item.rule)) if item.fired]
    console.print(f"fired: {escape(', '.join(fired)) or 'nothing'}", highlight=False, soft_wrap=True)
    for item in shown:
        again = f" (fired {item.fired} times)" if item.fired else ""
        console.print(f"[bold]{escape(item.rule)}[/] nearly fired at {_places(len(item.misses))}{again}", highlight=False)
        groups = _by_reason(item.misses)
        for reason, misses in groups[: len(groups) if everything else SHOWN_REASONS]:
            more = f" and {_places(len(misses) - 1)} more" if len(misses) > 1 else ""
            console.print(f"    {escape(reason)}: {escape(misses[0].where)}{more}", highlight=False, soft_wrap=True)
        if len(groups) > SHOWN_REASONS and not everything:
            console.print(f"    and {len(groups) - SHOWN_REASONS} other reasons; --rule {item.rule} shows them", highlight=False)
    if len(shown) < len(nearly):
        console.print(f"{len(nearly) - len(shown)} more rules had little of what they look for; --all shows them", highlight=False)


def _by_reason(misses: tuple[NearMiss, ...]) -> list[tuple[str, list[NearMiss]]]:
    """The places under one of the reasons that differ in names only, the nearest first, then what stopped most."""
    groups: dict[str, list[NearMiss]] = {}
    for miss in misses:
        groups.setdefault(re.sub(r"'[^']*'", "''", miss.reason), []).append(miss)
    found = [(alike[0].reason, alike) for alike in groups.values()]
    return sorted(found, key=lambda group: (-group[1][0].depth, -len(group[1])))


def _places(count: int) -> str:
    return f"{count} place{'' if count == 1 else 's'}"
