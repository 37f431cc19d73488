"""Twenty models that nothing was developed on (`graphwright.models.strangers`), pruned at 20 % of their FLOPs.

Claimed: what comes out is valid, gives finite numbers, and has as much less arithmetic as was asked for, within 3 %; or it is refused with the weight that
cannot be followed. The artifact reloads in ONNX Runtime, by itself and by `graphwright.load`.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from never_seen import measure_strangers
from prune_structured import NEAR
from tables import Row

import graphwright
from graphwright.compiler.core.errors import GraphwrightError
from graphwright.compiler.driver import compile_model
from graphwright.compiler.request import Request
from graphwright.models.session import Plain
from graphwright.models.strangers import Stranger

RATIO = 0.2
LIKE = 1e-3


def measure(only: str, seconds: float) -> tuple[list[Row], list[str]]:
    """All strangers whose name holds ``only``."""
    del seconds
    return measure_strangers(only, "20 % of the FLOPs pruned", examine)


def examine(stranger: Stranger) -> tuple[Row, list[str]]:
    """Export, prune, reload, and look at the numbers."""
    row: Row = {"model": stranger.name, "parameters": None, "FLOPs": None, "groups cut": None, "refused": ""}
    sample = next(iter(stranger.feeds(1)))
    with tempfile.TemporaryDirectory() as place:
        out = Path(place) / "out"
        try:
            request = Request(target="onnx", prune=RATIO, size=True, cache=False, output=out)
            artifact = compile_model(stranger.export(Path(place)), [sample], request)
        except GraphwrightError as error:
            return row | {"refused": str(error)[:120]}, [] if "'" in str(error) else [f"refused without a name: {error}"]
        reduction, compression = artifact.report.reduction, artifact.report.compression
        assert reduction is not None and compression is not None
        found, plain = graphwright.load(out).run(sample), Plain(out / "model.onnx").run(sample)
        left = reduction.flops_after / reduction.flops_before
        row |= {"parameters": reduction.parameters_after / reduction.parameters_before, "FLOPs": left, "groups cut": compression.compressed}
        missed = [] if abs(left - (1 - RATIO)) <= NEAR else [f"{1 - left:.3f} of the FLOPs went"]
        floats = [(np.asarray(found[name]), np.asarray(item)) for name, item in plain.items() if np.asarray(item).dtype.kind == "f"]
        if not all(np.isfinite(one).all() for one, _ in floats):
            missed.append("it gives numbers that are not finite")
        if not all(np.allclose(one, other, rtol=LIKE, atol=LIKE) for one, other in floats):
            missed.append("the artifact and its file answer differently")
        return row, missed
