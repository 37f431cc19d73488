"""Figures as a table on the terminal and as JSON in a file."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

Row = dict[str, object]


@dataclass(frozen=True)
class Findings:
    """What a part of a benchmark finds: the rows of its tables, and the claims that do not hold."""

    rows: list[Row] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)

    def table(self, title: str, rows: Sequence[Row], **about: object) -> None:
        """Print a table, and keep its rows with what they are ``about`` in front."""
        print_table(title, rows)
        self.rows.extend({**about, **row} for row in rows)

    def miss(self, where: str, claims: Iterable[str]) -> None:
        """Keep claims that do not hold, with where that is in front."""
        self.missed.extend(f"{where}: {claim}" for claim in claims)


def print_table(title: str, rows: Sequence[Row]) -> None:
    """Columns are the keys of the first row; numbers stand to the right."""
    if not rows:
        return
    columns = list(rows[0])
    texts = [[_text(row.get(column)) for column in columns] for row in rows]
    widths = [max(len(line[index]) for line in [columns, *texts]) for index in range(len(columns))]
    numeric = [all(isinstance(row.get(column), int | float | None) for row in rows) for column in columns]
    print(f"\n{title}")
    for line in [columns, *texts]:
        cells = (text.rjust(width) if right else text.ljust(width) for text, width, right in zip(line, widths, numeric, strict=True))
        print("  ".join(cells).rstrip(), flush=True)


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """The rows as JSON."""
    path.write_text(json.dumps(list(rows), indent=1, default=str) + "\n", encoding="utf-8")


def _text(value: object) -> str:
    if value is None:
        return "-"
    if not isinstance(value, float):
        return str(value)
    return f"{value:.3f}" if value == 0 or 0.01 <= abs(value) < 1e6 else f"{value:.2g}"
