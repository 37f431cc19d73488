"""``graphwright compile``: a model in, a verified and measured artifact out."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .arguments import (
    dims_option,
    find_model,
    graph_request,
    inputs_option,
    json_option,
    load_function,
    model_argument,
    pipeline_options,
    precision_options,
    precision_request,
    read_dims,
    read_samples,
    reduction_options,
    reduction_request,
    target_option,
    tuning_options,
    tuning_request,
)
from .console import output, print_json, progress

if TYPE_CHECKING:
    from ..compiler.plan_report import PlanReport
    from ..compiler.request import Request


@click.command()
@model_argument
@click.option("-o", "--output", "folder", metavar="FOLDER", help="Where the artifact goes; an artifact already there is replaced.")
@target_option
@pipeline_options
@precision_options
@reduction_options
@tuning_options
@inputs_option
@dims_option
@click.option("--metric", metavar="FILE.py:FUNCTION", help="A function of a runner (run({name: array}) -> {name: array}) to a number; higher is better.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the generated inputs.")
@click.option("--no-cache", is_flag=True, help="Neither use nor keep artifacts of earlier compilations.")
@click.option("--explain-plan", is_flag=True, help="Show the fusion plan too: which operators can be one kernel, why, and what is no longer stored.")
@json_option
def command(model: str, as_json: bool, explain_plan: bool, **options: Any) -> None:
    """Compile MODEL: rewrite its graph, check every step against it, keep what is measured to be faster.

    MODEL is an .onnx file, a Hugging Face folder, or file.py:name for a PyTorch module (or a function that gives a module and its example inputs).
    """
    with progress() as tell:
        from ..compiler.driver import compile_model

        source, examples, request = request_of(model, options, tell)
        with compile_model(source, examples, request) as artifact:
            report = artifact.report
        plan = explain(source, examples, request, tell) if explain_plan else None
    if as_json:
        print(report.to_json(), end="") if plan is None else print_json({**json.loads(report.to_json()), "plan": plan.entries()})
        return
    from ..compiler.plan_table import print_plan
    from ..compiler.report_table import print_report

    print_report(report, output())
    if plan is not None:
        print_plan(plan, output())
    if request.output is not None:
        print(f"written to {request.output}")


def explain(source: object, examples: object, request: Request, tell: Callable[[str], None]) -> PlanReport:
    """The fusion plan of what the passes of a request make of a model."""
    from ..compiler.plan_report import plan_as_compiled

    tell("planning blocks")
    return plan_as_compiled(source, examples, request)


def request_of(model: str, options: Mapping[str, Any], tell: Callable[[str], None]) -> tuple[object, object, Request]:
    """The model, its example inputs and the request that a command line means."""
    source, examples = find_model(model)
    given = read_samples(options["inputs"])
    metric = options.get("metric")
    request = dataclasses.replace(
        graph_request(options, tell),
        **precision_request(options),
        **reduction_request(options),
        metric=load_function(metric, "--metric") if metric else None,
        output=Path(options["folder"]) if options.get("folder") else None,
        dims=read_dims(options["dims"]),
        cache=not options.get("no_cache", False),
        tuning=tuning_request(options),
    )
    return source, given if given is not None else examples, request
