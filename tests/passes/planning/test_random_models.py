"""Random models compute the same bits with their blocks as functions, and inlined again."""

from __future__ import annotations

import onnx
import pytest

from graphwright.compiler.core.drift import Drift
from graphwright.compiler.core.errors import GraphwrightError
from graphwright.compiler.core.graph import clone_model
from graphwright.compiler.core.passes import Context
from graphwright.compiler.core.planning.outline import is_call
from graphwright.compiler.core.wellformed import check
from graphwright.passes.cleanup.functions import InlineFunctions
from graphwright.passes.planning.plan_fusion import PlanFusion
from graphwright.tests.fuzz.generator import random_model
from graphwright.tests.fuzz.trial import referee, text_of

SEEDS = 24
OPTIONS = (PlanFusion(), PlanFusion(deep=True), PlanFusion(repeated=0, operators=3))


def attempt(seed: int) -> int | None:
    """How many blocks were written; None when the model does not run at all. Raises AssertionError when the numbers change."""
    proto = random_model(seed)
    try:
        onnx.checker.check_model(proto)
        verifier = referee(proto)
    except (GraphwrightError, onnx.checker.ValidationError):
        return None
    model = clone_model(verifier.model)
    written = OPTIONS[seed % len(OPTIONS)].run(model, Context())
    assert written == sum(map(is_call, model.graph.all_nodes()))
    for _ in range(2):
        check(model)
        difference = verifier.check(model, Drift.EXACT)
        assert not difference.broken, f"seed {seed}: {difference}\n{text_of(proto)}"
        InlineFunctions().run(model, Context())
    assert not model.functions
    return written


@pytest.mark.filterwarnings("ignore")
def test_random_models_compute_the_same_bits() -> None:
    blocks = [attempt(seed) for seed in range(SEEDS)]
    assert sum(count is not None for count in blocks) > SEEDS // 2, "too few of the models run at all"
    assert sum(count or 0 for count in blocks) > SEEDS
