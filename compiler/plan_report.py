"""A model's fusion plan for people and programs: which operators become one kernel, why, and what is no longer stored."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import onnx_ir as ir

from .core.collector import seldom_collecting
from .core.graph import node_label
from .core.passes import Context, parse_pipeline
from .core.planning.plan import Block, Constraints, Plan, Profile, is_constant
from .core.planning.planner import plan_model
from .core.shapes import infer_shapes, known_bytes
from .driver import optimize_model
from .importer import import_model
from .pipeline import CANONICAL
from .request import Request

__all__ = ["PlanReport", "count_operators", "kernels_of", "plan_as_compiled", "plan_as_it_stands"]

MEBIBYTE = 2**20


@dataclass(frozen=True)
class PlanReport:
    """The plans of a model's graphs, the main one first, and how many operators the model had as it came in (constants not counted)."""

    plans: tuple[Plan, ...]
    came_in: int

    @property
    def operators(self) -> int:
        """How many operators were planned."""
        return sum(plan.operators for plan in self.plans)

    @property
    def kernels(self) -> int:
        """How many kernels they become."""
        return sum(plan.kernels for plan in self.plans)

    @property
    def saved_bytes(self) -> int:
        """Intermediate results that are no longer stored, where every unknown size is 1."""
        return sum(plan.saved_bytes for plan in self.plans)

    def blocks(self) -> list[Block]:
        """Every block of every graph, in an order in which it can run; what only holds a constant is left out."""
        return [block for plan in self.plans for block in kernels_of(plan)]

    def summary(self) -> str:
        """One sentence."""
        unknown = sum(block.saved_values for block in self.blocks()) - sum(_known(block) for block in self.blocks())
        least = "at least " if unknown else ""
        count = f"{self.operators} operators become {self.kernels} kernels ({_rate(self.operators, self.kernels):.2f} each"
        before = f"; {_rate(self.came_in, self.kernels):.2f} of the {self.came_in} that came in" if self.came_in != self.operators else ""
        return f"{count}{before}); {least}{self.saved_bytes / MEBIBYTE:.2f} MiB of intermediate results are not stored"

    def entries(self) -> dict[str, object]:
        """All of it as JSON has it."""
        return {
            "operators": self.operators,
            "operators_before": self.came_in,
            "kernels": self.kernels,
            "saved_bytes": self.saved_bytes,
            "blocks": [_entry(block, plan) for plan in self.plans for block in kernels_of(plan)],
        }


@seldom_collecting()
def plan_as_compiled(model: object, examples: object, request: Request, constraints: Constraints | None = None, profile: Profile | None = None) -> PlanReport:
    """The plan of a model as the passes of a request leave it; compression is left out. Raises what importing and rewriting raise."""
    source = import_model(model, examples).model
    plain = dataclasses.replace(request, precision="fp32", method=None, allowance=None, calibration=None, max_drop=None, metric=None)
    return _planned(optimize_model(source, plain).model, count_operators(source), constraints, profile)


@seldom_collecting()
def plan_as_it_stands(model: object, examples: object = None, constraints: Constraints | None = None, profile: Profile | None = None) -> PlanReport:
    """The plan of a model as it came in, its functions written out."""
    source = import_model(model, examples).model
    came_in = count_operators(source)
    for step in parse_pipeline(CANONICAL):
        step.run(source, Context())
    return _planned(source, came_in, constraints, profile)


def count_operators(model: ir.Model) -> int:
    """The operators of a model, its subgraphs' included, those that only hold a constant not."""
    return sum(not is_constant(node) for node in model.graph.all_nodes())


def kernels_of(plan: Plan) -> list[Block]:
    """The blocks of one graph that compute something."""
    return [block for block in plan.blocks if not all(map(is_constant, block.nodes))]


def _planned(model: ir.Model, came_in: int, constraints: Constraints | None, profile: Profile | None) -> PlanReport:
    infer_shapes(model)
    return PlanReport(plan_model(model, constraints, profile), came_in)


def _rate(operators: int, kernels: int) -> float:
    return operators / kernels if kernels else 1.0


def _known(block: Block) -> int:
    outputs = set(block.outputs)
    inner: Sequence[ir.Value] = [value for node in block.nodes for value in node.outputs if value not in outputs and value.uses()]
    return sum(known_bytes(value) is not None for value in inner)


def _entry(block: Block, plan: Plan) -> dict[str, object]:
    return {
        "graph": plan.graph.name or "",
        "operators": [node.op_type for node in block.nodes],
        "nodes": [node_label(node) for node in block.nodes],
        "mapping": block.mapping.title,
        "seed": node_label(block.seed),
        "taken": [{"operator": step.node.op_type, "way": step.way, "reason": step.reason} for step in block.steps],
        "left": [{"operator": refusal.node.op_type, "reason": refusal.reason} for refusal in block.refusals],
        "inputs": [value.name for value in block.inputs],
        "outputs": [value.name for value in block.outputs],
        "saved_bytes": block.saved_bytes,
        "saved_values": block.saved_values,
    }
