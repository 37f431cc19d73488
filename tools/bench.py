"""``graphwright bench``: models and artifacts timed against each other, in turns; and methods of quantisation measured on one model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from .arguments import dims_option, find_model, inputs_option, json_option, read_dims, read_samples
from .artifacts import is_artifact, model_in, refuse_far
from .bench_methods import methods_command
from .console import output, print_json, progress

if TYPE_CHECKING:
    import onnx_ir as ir

    from ..compiler.core.backend import Backend, Runner, Sample
    from ..compiler.timing import Comparison


class Bench(click.Group):
    """What can be measured; models, when what is named is none of it."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """``bench a.onnx b.onnx`` is ``bench models a.onnx b.onnx``."""
        named = bool(args) and (args[0] in self.commands or args[0] in ctx.help_option_names)
        return super().parse_args(ctx, args if named or not args else ["models", *args])


@click.group(cls=Bench)
def command() -> None:
    """Time models against each other ('bench a.onnx b.onnx'), or try methods of quantisation on one ('bench methods')."""


command.add_command(methods_command)


@command.command(name="models")
@click.argument("models", nargs=-1, required=True)
@inputs_option
@dims_option
@click.option("--seconds", type=click.FloatRange(0.1), default=5.0, show_default=True, help="How long each comparison may take.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the generated inputs.")
@json_option
def models_command(models: tuple[str, ...], inputs: tuple[str, ...], dims: tuple[str, ...], seconds: float, seed: int, as_json: bool) -> None:
    """Time MODELS, each against the first, in turns on the same inputs in one process.

    A model file runs with the runtime's default options, an artifact folder with those that were chosen for it.
    """
    with progress() as tell:
        from ..compiler.targets import find_backend
        from ..compiler.timing import compare_runners

        backend = find_backend("ort-cpu")
        samples = read_samples(inputs) or _made(models[0], backend, seed, read_dims(dims))
        rivals = models[1:] or models
        tell(f"opening {models[0]}")
        first = _open(models[0], backend)
        found = []
        for name in rivals:
            tell(f"timing {name}")
            rival = _open(name, backend)
            found.append(compare_runners(rival, first, samples, budget_s=seconds))
            rival.close()
        first.close()
    if as_json:
        print_json(_records(models, found))
    else:
        _show(models, found)


def _made(name: str, backend: Backend, seed: int, dims: dict[str, int]) -> list[Sample]:
    """One made-up input of usual size for the first model."""
    from ..compiler.samples import generate
    from ..compiler.usual import usual_sample

    model = _import(name)
    runner = backend.reference(model)
    try:
        return [usual_sample(model, runner.run, seed, dims) or generate(model, (), seed, runner.run)[0]]
    finally:
        runner.close()


def _import(name: str) -> ir.Model:
    from ..compiler.importer import import_model

    source, examples = find_model(name)
    return import_model(model_in(source), examples).model


def _open(name: str, backend: Backend) -> Runner:
    from ..compiler.driver import load

    if is_artifact(Path(name)):
        refuse_far(Path(name))
        return load(name).runner
    return backend.baseline(_import(name))


def _base(found: list[Comparison]) -> float:
    return sum(one.median_b for one in found) / len(found)


def _records(models: tuple[str, ...], found: list[Comparison]) -> list[dict[str, object]]:
    if len(models) == 1:
        return [_record(models[0], found[0])]
    return [{"model": models[0], "median_ms": _base(found) * 1000, "ratio": 1.0}, *map(_record, models[1:], found)]


def _record(name: str, found: Comparison) -> dict[str, object]:
    return {"model": name, "median_ms": found.median_a * 1000, "ratio": found.ratio, "low": found.low, "high": found.high, "rounds": found.rounds}


def _show(models: tuple[str, ...], found: list[Comparison]) -> None:
    from rich.markup import escape
    from rich.table import Table

    table = Table("model", "median", "time over the first (95 % confidence)", "rounds", box=None, pad_edge=False, header_style="bold")
    if len(models) > 1:
        table.add_row(escape(models[0]), f"{_base(found) * 1000:.3g} ms", "1", "")
    for name, one in zip(models[1:] or models, found, strict=True):
        interval = f"{one.ratio:.3f} ({one.low:.3f} to {one.high:.3f})" if len(models) > 1 else "-"
        table.add_row(escape(name), f"{one.median_a * 1000:.3g} ms", interval, str(one.rounds))
    output().print(table)
