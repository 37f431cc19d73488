"""Samples made up from the model alone: for when the user says that there is no data."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from ..core.backend import Sample
from ..samples import Run, generate
from ..targets import find_backend
from ..usual import usual_sample

__all__ = ["make_up"]


def make_up(model: ir.Model, count: int, seed: int, run: Run | None = None) -> Iterator[Sample]:
    """``count`` samples of the usual sizes that the model accepts, each from a seed of its own. Raises InputError when none can be made."""
    runner = find_backend("onnx").reference(model) if run is None else None
    accepts = runner.run if runner is not None else run
    assert accepts is not None
    try:
        for place in range(count):
            found = usual_sample(model, accepts, seed + place, {})
            yield found if found is not None else generate(model, (), seed + place, accepts, limit=1)[0]
    finally:
        if runner is not None:
            runner.close()
