"""What a command prints: tables and JSON on stdout, what it is at now on stderr."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


def output() -> Console:
    """stdout. Colours only on a terminal and without NO_COLOR; as wide as it takes when it is not a terminal."""
    from rich.console import Console

    return Console() if sys.stdout.isatty() else Console(width=160, color_system=None)


def print_json(content: object) -> None:
    """One JSON document on stdout."""
    print(json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False))


@contextlib.contextmanager
def progress() -> Iterator[Callable[[str], None]]:
    """A function to tell what is going on: one line on stderr that is written over, and nothing when that is no terminal.

    It draws only when told, never from a thread of its own: something may be being timed.
    """
    if not sys.stderr.isatty():
        yield lambda text: None
        return
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    with Live(console=Console(stderr=True), auto_refresh=False, transient=True) as live:
        yield lambda text: live.update(Text(f"… {text}", style="dim", no_wrap=True, overflow="ellipsis"), refresh=True)
