"""``graphwright passes``: what can be done to a model."""

from __future__ import annotations

import dataclasses
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
    """List the passes, their options and their rules; with NAME, all about one pass or rule."""
    steps = _steps(level, target)
    if name is not None:
        _show_one(name, steps, as_json)
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


def _show_all(steps: list[type[Pass]]) -> None:
    from rich.markup import escape

    console = output()
    for step in steps:
        options = ", ".join(f"{field.name}={default}" for field, default in _options(step))
        console.print(f"[bold]{step.name}[/] ({step.drift.value}){escape(f' {{{options}}}' if options else '')}", highlight=False)
        console.print(f"    {escape(_summary(step))}", highlight=False)
        for item in _rules(step):
            console.print(f"    [bold]{item.name}[/] ({item.drift.value})  {escape(item.equation)}", highlight=False, soft_wrap=True)


def _show_one(name: str, steps: list[type[Pass]], as_json: bool) -> None:
    from ..compiler.core.errors import UsageError

    for step in steps:
        if step.name == name:
            print_json(_describe(step)) if as_json else _show_all([step])
            return
    for item in (item for step in steps for item in _rules(step)):
        if item.name == name:
            print_json(_describe_rule(item)) if as_json else _show_rule(item)
            return
    raise UsageError(f"there is no pass or rule '{name}'; 'graphwright passes' lists them")


def _show_rule(item: Rule) -> None:
    print(f"{item.name} ({item.drift.value}, opset {item.opset} and up{_needs(item)})\n{item.equation}")
    for title, texts in (("fires on", item.examples), ("leaves alone", item.leaves)):
        for text in texts:
            print(f"\n{title}:\n{text.strip()}")


def _needs(item: Rule) -> str:
    return f", for targets with {', '.join(item.kernels)}" if item.kernels else ""


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
        "class": item.drift.value,
        "equation": item.equation,
        "opset": item.opset,
        "kernels": list(item.kernels),
        "examples": list(item.examples),
        "leaves": list(item.leaves),
    }


def _options(step: type[Pass]) -> list[tuple[dataclasses.Field, object]]:
    return [(field, field.default) for field in dataclasses.fields(step)]


def _rules(step: type[Pass]) -> list[Rule]:
    from ..compiler.core.rulepass import RulePass

    return list(step().chosen()) if issubclass(step, RulePass) else []


def _summary(step: type[Pass]) -> str:
    return (step.__doc__ or "").strip().split("\n\n")[0].replace("\n    ", " ")
