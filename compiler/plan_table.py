"""A fusion plan as a table on the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .plan_report import MEBIBYTE, PlanReport, kernels_of

if TYPE_CHECKING:
    from rich.console import Console

NAMED = 6
"""Operators that a row names; the rest are counted."""
REASONS = 3
"""Reasons of one block that are shown."""


def print_plan(report: PlanReport, console: Console) -> None:
    """One row a block of several operators, with what was taken and what stopped it; then one line for those that stay alone."""
    from rich.markup import escape
    from rich.table import Table

    table = Table("block", "mapping type", "not stored", "grown from, and why it ends", box=None, pad_edge=False, header_style="bold")
    for plan in report.plans:
        for block in kernels_of(plan):
            if block.fused:
                names = [node.op_type for node in block.nodes]
                rest = [f"{len(names) - NAMED} more"] if len(names) > NAMED else []
                refused = list(dict.fromkeys(f"{refusal.node.op_type}: {refusal.reason}" for refusal in block.refusals))
                why = "; ".join([f"from {block.seed.op_type}", *(f"not {text}" for text in refused[:REASONS])])
                saved = f"{block.saved_bytes / MEBIBYTE:.3g} MiB" if block.saved_bytes else f"{block.saved_values} values" if block.saved_values else "-"
                table.add_row(escape(", ".join([*names[:NAMED], *rest])), block.mapping.title, saved, escape(why))
    console.print(table)
    alone = [block.nodes[0].op_type for block in report.blocks() if not block.fused]
    counts = ", ".join(f"{name} {alone.count(name)}" for name in sorted(set(alone), key=lambda name: (-alone.count(name), name)))
    console.print(f"alone: {escape(counts) or 'none'}", highlight=False, soft_wrap=True)
    console.print(escape(report.summary()), highlight=False, soft_wrap=True)
