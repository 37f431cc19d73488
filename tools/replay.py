"""``graphwright replay``: a rewrite that went wrong, seen again."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click

from .arguments import json_option, plain_numbers
from .console import print_json, progress


@click.command()
@click.argument("folder")
@json_option
def command(folder: str, as_json: bool) -> int:
    """Run the rewrite of a replay FOLDER again on the inputs that showed the fault, and show the graph before and after.

    Exit code 0: the fault is gone; 1: it is still there.
    """
    with progress() as tell:
        tell(f"replaying {folder}")
        from ..compiler.replay import replay

        found = replay(Path(folder))
    if as_json:
        print_json(plain_numbers(dataclasses.asdict(found)))
        return 1 if found.reproduced else 0
    print(found.text, end="" if found.text.endswith("\n") else "\n")
    print(f"{'still there' if found.reproduced else 'gone'}: {found.reason}")
    worst = found.difference
    if worst is not None and worst.output:
        print(f"'{worst.output}' at {list(worst.index)}: {worst.before:.7g} became {worst.after:.7g}, {worst.allowed:.2g} is allowed")
    return 1 if found.reproduced else 0
