"""The models that nothing was developed on (`graphwright.models.strangers`), one by one."""

from __future__ import annotations

from collections.abc import Callable

from tables import Row, print_table

from graphwright.models.strangers import Stranger, strangers


def measure_strangers(only: str, title: str, examine: Callable[[Stranger], tuple[Row, list[str]]]) -> tuple[list[Row], list[str]]:
    """All strangers whose name holds ``only``: the table's rows, and the claims that ``examine`` found missed."""
    rows: list[Row] = []
    missed: list[str] = []
    for stranger in strangers():
        if only in stranger.name:
            row, claims = examine(stranger)
            rows.append(row)
            missed += [f"{stranger.name}: {claim}" for claim in claims]
            print(f"{stranger.name}: {'; '.join(claims) or row.get('refused') or 'in order'}", flush=True)
    print_table(f"never seen in development, {title}", rows)
    return rows, missed
