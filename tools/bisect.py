"""``graphwright bisect``: where two models part ways, or which rewrite of a pipeline is to blame."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import click

from .arguments import find_model, graph_request, inputs_option, json_option, pipeline_options, plain_numbers, read_samples, target_option
from .console import output, print_json, progress
from .diff import model_file

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..compiler.bisect import Culprit, Divergence
    from ..compiler.core.backend import Sample


@click.command()
@click.argument("before")
@click.argument("after", required=False)
@inputs_option
@target_option
@pipeline_options
@json_option
def command(before: str, after: str | None, inputs: tuple[str, ...], as_json: bool, **options: Any) -> int:
    """Find the first value in which the model AFTER differs from BEFORE; with BEFORE alone, the rewrites of a pipeline that break their contract.

    Exit code 0: nothing differs by more than rounding; 1: something does.
    """
    samples = read_samples(inputs) or []
    if after is None:
        return _pipeline(before, samples, options, as_json)
    return _files(before, after, samples, as_json)


def _files(before: str, after: str, samples: list[Sample], as_json: bool) -> int:
    with progress() as tell:
        from ..compiler.bisect import bisect_models
        from ..compiler.importer import import_model

        one, other = (import_model(model_file(name)).model for name in (before, after))
        found = bisect_models(one, other, samples, progress=tell)
    if as_json:
        print_json(plain_numbers({"divergence": dataclasses.asdict(found) if found is not None else None}))
    elif found is None:
        print("the models agree: no output differs by more than rounding")
    else:
        _show_divergence(found)
    return 0 if found is None else 1


def _pipeline(model: str, samples: list[Sample], options: Mapping[str, Any], as_json: bool) -> int:
    with progress() as tell:
        from ..compiler.bisect import bisect_pipeline
        from ..compiler.driver import replay_home
        from ..compiler.importer import import_model
        from ..compiler.targets import find_target

        source, examples = find_model(model)
        request = graph_request(options, tell)
        target = find_target(request.target)
        imported = import_model(source, examples)
        inputs = samples or list(imported.samples)
        found = bisect_pipeline(imported.model, request.steps(target), inputs, target=target, replay_folder=replay_home(), progress=tell)
    if as_json:
        print_json(plain_numbers({"culprits": [dataclasses.asdict(culprit) for culprit in found]}))
    else:
        _show_culprits(found)
    return 1 if found else 0


def _show_divergence(found: Divergence) -> None:
    worst = found.difference
    print(f"the output '{found.output}' differs, and first of all the value '{found.value}', made by {found.node}")
    if (found.other, found.other_node) != (found.value, found.node):
        print(f"in the second model it is '{found.other}', made by {found.other_node}")
    print(worst.reason or f"at {list(worst.index)}: {worst.before:.7g} and {worst.after:.7g}, {worst.allowed:.2g} is allowed")
    print(f"{found.compared} values were compared\n")
    print(found.text, end="")


def _show_culprits(found: tuple[Culprit, ...]) -> None:
    if not found:
        print("every rewrite keeps its contract")
        return
    from ..compiler.report import rollback_entry
    from ..compiler.report_table import undone_lines

    for line in undone_lines([rollback_entry(culprit.undone) for culprit in found]):
        output().print(line, highlight=False, soft_wrap=True)
