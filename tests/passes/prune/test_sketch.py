"""What lengths alone say of a model's size is what the smaller model has."""

from __future__ import annotations

import numpy as np
import pytest

from graphwright.compiler.core.cost import model_size
from graphwright.compiler.core.passes import Context, parse_pipeline
from graphwright.passes.prune.candidates import Candidates
from graphwright.passes.prune.coupling.groups import couple
from graphwright.passes.prune.sketch import Sketch

from .pruned_models import model_of
from .test_coupling import MODELS


@pytest.mark.parametrize("name", list(MODELS))
def test_the_sketch_has_the_size_of_the_model(name: str) -> None:
    model, random = model_of(MODELS[name]), np.random.default_rng(0)
    for step in parse_pipeline("constants-to-initialisers"):
        step.run(model, Context())
    groups = [group for group in couple(model).groups if group.size > 1]
    sketch, candidates = Sketch(model, groups), Candidates(model, groups, Context())
    for share in (0.0, 0.3, 0.6, 0.3):
        choice = {group.name: np.sort(random.permutation(group.size)[: int(share * group.size)]) for group in groups}
        assert sketch.size(choice) == model_size(candidates.without(choice))
