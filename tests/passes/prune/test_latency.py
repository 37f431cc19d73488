"""A share of the time, and sizes that kernels like: decided by who times models, here one that counts."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import onnx_ir as ir
import pytest

from graphwright.compiler.core.errors import UsageError
from graphwright.compiler.core.graph import clone_model
from graphwright.compiler.core.judge import Span, Willing
from graphwright.compiler.core.passes import Context, parse_pipeline
from graphwright.passes.prune.choosing import Picker, meet
from graphwright.passes.prune.coupling.groups import couple
from graphwright.passes.prune.halp import measured_costs

from .pruned_models import model_of, outputs_of
from .test_structured import CONV, DEEP, samples


@dataclass
class Counting(Willing):
    """Takes as long for a model as ``seconds`` says of its weights' shapes."""

    seconds: Callable[[list[tuple[int, ...]]], float]
    asked: list[float] = field(default_factory=list)

    def ratio(self, before: ir.Model, after: ir.Model) -> Span:
        found = self.seconds(shapes(after)) / self.seconds(shapes(before))
        self.asked.append(found)
        return Span(found, found * 0.99, found * 1.01)


def shapes(model: ir.Model) -> list[tuple[int, ...]]:
    return [tuple(value.shape.numpy()) for value in model.graph.initializers.values() if value.dtype == ir.DataType.FLOAT and value.shape is not None]


def by_numbers(found: list[tuple[int, ...]]) -> float:
    """A part that never goes, and one for every number."""
    return 1000 + sum(map(math.prod, found))


def in_sixteens(found: list[tuple[int, ...]]) -> float:
    """Every axis counts as the next multiple of 16, and other sizes a little more."""
    return sum(math.prod(-(-size // 16) * 16 for size in shape) * (1.0 + 0.1 * sum(size % 16 > 0 for size in shape)) for shape in found if len(shape) > 1)


def pruned(model: ir.Model, text: str, judge: Willing | None) -> tuple[ir.Model, Context]:
    copy, context = clone_model(model), Context(judge=judge)
    for step in parse_pipeline(f"constants-to-initialisers,{text},eliminate-dead-code"):
        step.run(copy, context)
    return copy, context


@pytest.mark.parametrize("ratio", [0.1, 0.3, 0.5])
@pytest.mark.parametrize("text", [DEEP, CONV])
def test_as_much_of_the_time_goes_as_was_asked_for(text: str, ratio: float) -> None:
    model, judge = model_of(text), Counting(by_numbers)
    small, context = pruned(model, f"prune-structured{{ratio={ratio},of=latency}}", judge)
    assert by_numbers(shapes(small)) / by_numbers(shapes(model)) == pytest.approx(1 - ratio, abs=0.03)
    assert any("of its time" in note for note in context.notes)


def test_a_share_of_the_time_needs_somebody_who_times() -> None:
    with pytest.raises(UsageError, match="latency"):
        pruned(model_of(DEEP), "prune-structured{ratio=0.3,of=latency}", None)
    with pytest.raises(UsageError, match="cannot be measured"):
        pruned(model_of(DEEP), "prune-structured{ratio=0.3,of=latency}", Willing())


def test_members_of_a_group_that_saves_time_cost_more_than_those_of_one_that_does_not() -> None:
    model = model_of(DEEP)
    pruned(model, "eliminate-dead-code", None)
    groups = couple(model).groups
    costs = measured_costs(groups, dict.fromkeys((group.name for group in groups), 1.0), lambda counts: Span(1 - counts[0] / 100, 0, 1))
    assert costs[groups[0].name] == pytest.approx(0.01)
    assert all(costs[group.name] < 0.2 * costs[groups[0].name] for group in groups[1:])
    assert all(cost > 0 for cost in costs.values())


def test_sizes_are_rounded_where_that_is_faster_and_only_there() -> None:
    model, options = model_of(DEEP), "ratio=0.3,of=members,uniform=true"
    liked, context = pruned(model, f"prune-structured{{{options}}}", Counting(in_sixteens))
    assert [liked.graph.initializers[name].shape.numpy()[1] for name in ("A", "C", "E")] == [48, 32, 80]
    assert any("sizes are multiples of 16" in note for note in context.notes)
    even, context = pruned(model, f"prune-structured{{{options}}}", Counting(lambda found: 1.0))
    plain, _ = pruned(model, f"prune-structured{{{options},multiple=1}}", None)
    assert shapes(even) == shapes(plain)
    assert not any("multiples of" in note for note in context.notes)
    assert outputs_of(liked, samples((2, 24), 1, 1)[0])[0].shape == (2, 10)


def test_single_members_are_looked_at_where_each_is_much_of_the_model() -> None:
    text = """m (float[1, 1, 12, 12] x, float[8, 1, 3, 3] A, float[16, 8, 3, 3] C, float[3, 16, 1, 1] D) => (float[1, 3, 8, 8] y) {
        a = Conv(x, A)
        r = Relu(a)
        c = Conv(r, C)
        s = Relu(c)
        y = Conv(s, D) }"""
    model = model_of(text)
    groups, missed = couple(model).groups, {}
    sizes = {group.name: group.size for group in groups}
    for group in groups:
        missed[group.name] = 1.0 + 0.01 * sum(map(ord, group.name)) + 0.0 * group.members
    found, left = meet(0.2, Picker(groups, missed), lambda counts: (8 - counts[0]) / 8 * (16 - counts[1]) / 16)
    assert sizes == {"A[0]": 8, "C[0]": 16}
    assert left == pytest.approx(0.8, abs=0.03), found


def test_the_most_sensitive_groups_are_named() -> None:
    _, context = pruned(model_of(DEEP), "prune-structured{ratio=0.3}", None)
    (note,) = [note for note in context.notes if "misses most" in note]
    assert note.startswith("of 30% of each group, magnitude misses most what feeds '")
