"""Runs a pipeline on a graph of the catalogue as it is, with nothing rolled back, and compares the numbers with the model's own."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import onnx
import onnx_ir as ir

from graphwright.compiler.core.backend import Sample
from graphwright.compiler.core.graph import clone_model
from graphwright.compiler.core.passes import Context, Pass
from graphwright.compiler.core.rulepass import RulePass
from graphwright.compiler.core.wellformed import check
from graphwright.compiler.importer import import_model
from graphwright.compiler.pipeline import pipeline_for
from graphwright.compiler.samples import generate
from graphwright.compiler.serialize import to_proto
from graphwright.compiler.targets import find_backend, find_target
from graphwright.compiler.tolerance import stress_of
from graphwright.compiler.verify import Verifier

from .certainty import broken


@dataclass(frozen=True)
class Judge:
    """Knows what a model computes on inputs made for it, ordinary ones and ones with zeros, infinities and NaN."""

    source: ir.Model
    samples: tuple[Sample, ...]
    verifier: Verifier

    def ordinary(self) -> tuple[int, ...]:
        """The samples without infinities, NaN and very large numbers."""
        return tuple(index for index, sample in enumerate(self.samples) if not stress_of(sample).any)

    def fault(self, result: onnx.ModelProto | ir.Model) -> str:
        """What is wrong with what a tool made of the model; empty when nothing is."""
        return self._fault(result, None)

    def fault_on_ordinary_inputs(self, result: onnx.ModelProto | ir.Model) -> str:
        """The same, leaving out infinities, NaN and very large numbers."""
        return self._fault(result, self.ordinary())

    def _fault(self, result: onnx.ModelProto | ir.Model, only: tuple[int, ...] | None) -> str:
        model = result if isinstance(result, ir.Model) else ir.from_proto(result)
        found = broken(self.verifier, model, only)
        if found is None:
            return ""
        place = f"output '{found.output}'{list(found.index)}, " if found.output else ""
        return f"{found.reason or f'{found.before:.7g} became {found.after:.7g}, {found.allowed:.2g} is allowed'} ({place}sample {found.sample})"


def every_rule(target: str) -> tuple[Pass, ...]:
    """The passes of level 2, with the rules whose kernels were measured not to pay on this device, too: they may pay elsewhere."""
    steps = pipeline_for(find_target(target), 2, "fp32")
    return tuple(dataclasses.replace(step, doubtful=True) if isinstance(step, RulePass) else step for step in steps)


def judge(model: onnx.ModelProto, samples: tuple[Sample, ...] = ()) -> Judge:
    """The judge of a model."""
    source, backend = import_model(model).model, find_backend("onnx")
    runner = backend.reference(source)
    made = generate(source, samples, 0, runner.run)
    return Judge(source, made, Verifier(source, made, backend, runner=runner))


def rewrite(model: ir.Model, steps: tuple[Pass, ...], target: str, *, fast_math: bool = False) -> onnx.ModelProto:
    """What the passes make of a model, checked after each; the numbers are not looked at, and nothing is undone."""
    changed = clone_model(model)
    context = Context(find_target(target), fast_math=fast_math)
    for step in steps:
        step.run(changed, context)
        check(changed)
    result = to_proto(changed)
    onnx.checker.check_model(result)
    return result
