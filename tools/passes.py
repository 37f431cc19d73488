"""``graphwright passes``: what can be done to a model."""

from __future__ import annotations

import dataclasses
import difflib
import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from .arguments import json_option
from .console import output, print_json

if TYPE_CHECKING:
    from ..compiler.core.passes import Pass
    from ..compiler.core.rule import Rule


@click.command()
@click.argument("name", required=False)
@click.option("--level", type=click.IntRange(0, 3), help="Only the passes of this level, in the order they run.")
@click.option("--target", default="ort-cpu", show_default=True, help="The target whose levels are meant.")
@json_option
def command(name: str | None, level: int | None, target: str, as_json: bool) -> None:
    """List the passes, their options and their rules, by families.

    With NAME, all about one pass or one rule (with its examples), or the rules of a family, or those with NAME in their names.
    """
    steps = _steps(level, target)
    if name is not None:
        _show_named(name, steps, as_json)
    elif as_json:
        print_json([_describe(step) for step in steps])
    else:
        _show_all(steps)


def _steps(level: int | None, target: str) -> list[type[Pass]]:
    from ..compiler.core.passes import pass_classes

    if level is None:
        return list(pass_classes().values())
    from ..compiler.pipeline import pipeline_for
    from ..compiler.targets import find_target

    return list(dict.fromkeys(type(step) for step in pipeline_for(find_target(target), level, "fp32")))


def _show_all(steps: Sequence[type[Pass]]) -> None:
    from rich.markup import escape

    console = output()
    for step in steps:
        options = ", ".join(f"{field.name}={default}" for field, default in _options(step))
        rules = _rules(step)
        count = f", {len(rules)} rules" if rules else ""
        console.print(f"[bold]{step.name}[/] ({step.drift.value}{count}){escape(f' {{{options}}}' if options else '')}", highlight=False)
        console.print(f"    {escape(_summary(step))}", highlight=False)
        _show_rules(rules)
    total = sum(len(_rules(step)) for step in steps)
    if len(steps) > 1:
        console.print(f"{len(steps)} passes with {total} rules; 'graphwright passes NAME' shows one with its examples", highlight=False)


def _show_rules(rules: Sequence[Rule]) -> None:
    """A line for each rule under the name of its family."""
    from rich.markup import escape

    console = output()
    width = max((len(item.name) for item in rules), default=0)
    for family, members in itertools.groupby(rules, _family):
        console.print(f"  [bold]{escape(family)}[/]", highlight=False)
        for item in members:
            facts = ", ".join([item.drift.value, f"{len(item.examples)} example{'' if len(item.examples) == 1 else 's'}", *_needs(item)])
            line = f"    [bold]{escape(item.name.ljust(width))}[/]  {escape(item.equation)}  [dim]({escape(facts)})[/]"
            console.print(line, highlight=False, soft_wrap=True)


def _show_named(name: str, steps: Sequence[type[Pass]], as_json: bool) -> None:
    for step in steps:
        if step.name == name:
            print_json({**_describe(step), "operators": step.works_through()}) if as_json else _show_one(step)
            return
    rules = [item for step in steps for item in _rules(step)]
    exact = [item for item in rules if item.name == name]
    if exact:
        print_json(_describe_rule(exact[0])) if as_json else _show_rule(exact[0])
        return
    found = [item for item in rules if _family(item) == name] or [item for item in rules if name in item.name]
    if not found:
        _refuse(name, [*(step.name for step in steps), *(item.name for item in rules)])
    print_json([_describe_rule(item) for item in found]) if as_json else _show_rules(found)


def _show_one(step: type[Pass]) -> None:
    _show_all([step])
    if step.works_through():
        print(f"    works through {len(step.works_through())} operators: {', '.join(step.works_through())}")


def _refuse(name: str, known: Sequence[str]) -> None:
    from ..compiler.core.errors import UsageError

    near = difflib.get_close_matches(name, known, n=3)
    hint = f" Did you mean {' or '.join(near)}?" if near else ""
    raise UsageError(f"there is no pass or rule '{name}'; 'graphwright passes' lists them.{hint}")


def _show_rule(item: Rule) -> None:
    facts = ", ".join([item.drift.value, f"opset {item.opset} and up", *_needs(item)])
    print(f"{item.name} ({facts})\n{item.equation}")
    for title, texts in (("fires on", item.examples), ("leaves alone", item.leaves)):
        for text in texts:
            print(f"\n{title}:\n{text.strip()}")


def _needs(item: Rule) -> list[str]:
    """What has to hold for the rule to be tried, in words."""
    told = [f"for targets with {', '.join(item.kernels)}"] if item.kernels else []
    if item.lifts:
        told.append(f"lifts the model to opset {item.lifts}")
    if item.measured:
        told.append("where it is measured to be faster")
    if item.doubtful:
        told.append(f"on {', '.join(item.doubtful)} only when asked for")
    return told


def _describe(step: type[Pass]) -> dict[str, object]:
    return {
        "name": step.name,
        "class": step.drift.value,
        "summary": _summary(step),
        "options": {field.name: str(default) for field, default in _options(step)},
        "rules": [_describe_rule(item) for item in _rules(step)],
    }


def _describe_rule(item: Rule) -> dict[str, object]:
    return {
        "name": item.name,
        "family": _family(item),
        "class": item.drift.value,
        "equation": item.equation,
        "opset": item.opset,
        "lifts": item.lifts or None,
        "kernels": list(item.kernels),
        "measured": item.measured,
        "doubtful": list(item.doubtful),
        "examples": list(item.examples),
        "leaves": list(item.leaves),
    }


def _family(item: Rule) -> str:
    """The file that the rule stands in."""
    return item.build.__module__.rpartition(".")[2].replace("_", "-")


def _options(step: type[Pass]) -> list[tuple[dataclasses.Field, object]]:
    return [(field, field.default) for field in dataclasses.fields(step)]


def _rules(step: type[Pass]) -> list[Rule]:
    from ..compiler.core.rulepass import RulePass

    return list(step().chosen()) if issubclass(step, RulePass) else []


def _summary(step: type[Pass]) -> str:
    return " ".join((step.__doc__ or "").strip().split("\n\n")[0].split())
