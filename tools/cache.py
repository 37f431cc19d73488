"""``graphwright cache``: the artifacts kept from earlier compilations."""

from __future__ import annotations

import time
from typing import Any

import click

from .arguments import dims_option, inputs_option, json_option, model_argument, pipeline_options, precision_options, reduction_options, target_option
from .console import output, print_json, progress

MEBIBYTE = 2**20


@click.group()
def command() -> None:
    """Look into, explain and empty the cache of compiled artifacts."""


@command.command("list")
@json_option
def list_entries(as_json: bool) -> None:
    """List what is kept, last used first."""
    from ..compiler.cache import open_cache

    cache = open_cache()
    entries = cache.entries() if cache is not None else []
    if as_json:
        print_json([{"key": entry.name, "model": entry.label, "bytes": entry.bytes, "used": entry.used, "components": dict(entry.key)} for entry in entries])
        return
    if cache is None:
        print("the cache is switched off (GRAPHWRIGHT_CACHE)")
        return
    from rich.markup import escape
    from rich.table import Table

    table = Table("key", "model", "target", "size", "last used", box=None, pad_edge=False, header_style="bold")
    for entry in entries:
        used = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.used))
        table.add_row(entry.name[:12], escape(entry.label), entry.key.get("target", ""), f"{entry.bytes / MEBIBYTE:.1f} MiB", used)
    console = output()
    if entries:
        console.print(table)
    console.print(f"{len(entries)} artifacts, {sum(entry.bytes for entry in entries) / MEBIBYTE:.1f} MiB in {escape(str(cache.folder))}", highlight=False)


@command.command()
@json_option
def clear(as_json: bool) -> None:
    """Remove everything that is kept and not in use."""
    from ..compiler.cache import open_cache

    cache = open_cache()
    count = cache.clear() if cache is not None else 0
    print_json({"removed": count}) if as_json else print(f"removed {count} artifacts")


@command.command()
@model_argument
@target_option
@pipeline_options
@inputs_option
@dims_option
@precision_options
@reduction_options
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the generated inputs.")
@json_option
def explain(model: str, as_json: bool, **options: Any) -> None:
    """Say whether compiling MODEL with these options would be served from the cache and, if not, what is different from the nearest artifact kept."""
    from .compile import request_of

    with progress() as tell:
        from ..compiler.driver import explain_cache

        answer = explain_cache(*request_of(model, options, tell))
    nearest = answer.nearest
    if as_json:
        record = {"hit": answer.hit, "key": answer.name, "nearest": nearest.name if nearest else None, "model": nearest.label if nearest else None}
        print_json({**record, "differs": list(answer.differs)})
    elif answer.hit:
        print(f"hit: {answer.name[:12]}")
    elif nearest is None:
        print(f"miss: nothing is kept that could serve (key {answer.name[:12]})")
    else:
        print(f"miss: {', '.join(answer.differs)} differ{'s' if len(answer.differs) == 1 else ''} from {nearest.name[:12]} ({nearest.label})")
