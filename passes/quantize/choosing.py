"""Which sites a pass was asked to compress."""

from __future__ import annotations

import onnx_ir as ir

from ...compiler.core.passes import Context
from ...compiler.core.sites import Site, all_sites

__all__ = ["ASKED_TO_STAY", "chosen_sites"]

ASKED_TO_STAY = "it was asked to stay"


def chosen_sites(model: ir.Model, context: Context, only: tuple[str, ...], keep: tuple[str, ...], embeddings: bool = True) -> list[Site]:
    """The sites named ``only`` (none: all), but for those to ``keep``, which coverage is told of, and embeddings where those are to stay."""
    found = []
    for site in all_sites(model):
        if only and site.name not in only:
            continue
        if site.name in keep:
            context.coverage.leave(site, ASKED_TO_STAY)
        elif site.kind == "Gather" and not embeddings:
            context.coverage.leave(site, "embeddings were asked to stay")
        else:
            found.append(site)
    return found
