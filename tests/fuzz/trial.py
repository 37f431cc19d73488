"""One model through every rule, for both targets, and what is wrong with what comes out."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import onnx
import onnx_ir as ir

from graphwright.compiler.core.drift import Drift
from graphwright.compiler.core.errors import GraphwrightError
from graphwright.compiler.core.graph import clone_model
from graphwright.compiler.core.ledger import Ledger
from graphwright.compiler.core.passes import Context
from graphwright.compiler.core.wellformed import check
from graphwright.compiler.importer import import_model
from graphwright.compiler.samples import generate
from graphwright.compiler.serialize import to_proto
from graphwright.compiler.signature import check_signature
from graphwright.compiler.targets import find_backend, find_target
from graphwright.compiler.verify import Verifier
from graphwright.tests.rewrites.certainty import broken
from graphwright.tests.rewrites.running import every_rule

TARGETS = ("onnx", "ort-cpu")
SAMPLES = 12


@dataclass(frozen=True)
class Fault:
    """What went wrong: the target, the kind ("raised", "invalid", "numbers"), what exactly, and the rule to blame."""

    target: str
    kind: str
    reason: str
    rule: str = ""


@dataclass(frozen=True)
class Trial:
    """Whether the model could be tried at all, the rules that fired on it, and what went wrong."""

    ran: bool
    rules: tuple[str, ...] = ()
    fault: Fault | None = None


def attempt(model: onnx.ModelProto, targets: tuple[str, ...] = TARGETS) -> Trial:
    """Try a model for each target, until something is wrong."""
    try:
        onnx.checker.check_model(model)
        verifier = referee(model)
    except (GraphwrightError, onnx.checker.ValidationError):
        return Trial(ran=False)
    fired: list[str] = []
    for target in targets:
        fault = fault_of(verifier, target, ledger := Ledger())
        fired += [entry.rule for entry in ledger.entries]
        if fault is not None:
            return Trial(True, tuple(fired), dataclasses.replace(fault, rule=blamed(verifier, target, len(ledger.entries))))
    return Trial(True, tuple(fired))


def referee(model: onnx.ModelProto) -> Verifier:
    """Runs the model with every optimisation of the runtime off. Raises GraphwrightError when it does not run."""
    source, backend = import_model(model).model, find_backend("onnx")
    runner = backend.reference(source)
    samples = generate(source, (), 0, runner.run, limit=SAMPLES, seconds=1.0)
    return Verifier(source, samples, backend, runner=runner)


def fault_of(verifier: Verifier, target: str, ledger: Ledger) -> Fault | None:
    """What is wrong with the model that the passes for a target make; None when nothing is."""
    model = clone_model(verifier.model)
    context = Context(find_target(target), ledger)
    for step in every_rule(target):
        try:
            step.run(model, context)
        except Exception as error:
            return Fault(target, "raised", f"{step.name} raised {type(error).__name__}: {error}")
        try:
            check(model)
        except Exception as error:
            return Fault(target, "invalid", f"behind {step.name}: {error}")
    try:
        check_signature(verifier.model, model, Drift.ROUNDING)
        onnx.checker.check_model(to_proto(model))
    except Exception as error:
        return Fault(target, "invalid", str(error))
    found = broken(verifier, model)
    if found is None:
        return None
    reason = found.reason or f"{found.before:.7g} became {found.after:.7g}, {found.allowed:.2g} is allowed"
    return Fault(target, "numbers", f"{reason} (output '{found.output}'{list(found.index)}, sample {found.sample})")


def blamed(verifier: Verifier, target: str, count: int) -> str:
    """The rule whose rewrite is the first after which something is wrong, found by division."""
    low, high = 0, count
    if count == 0 or fault_of(verifier, target, Ledger(0)) is not None:
        return ""
    while high - low > 1:
        middle = (low + high) // 2
        if fault_of(verifier, target, Ledger(middle)) is None:
            low = middle
        else:
            high = middle
    ledger = Ledger(high)
    fault_of(verifier, target, ledger)
    return ledger.entries[-1].rule if ledger.entries else ""


def text_of(model: onnx.ModelProto | ir.Model) -> str:
    """The model in ONNX text."""
    return onnx.printer.to_text(model if isinstance(model, onnx.ModelProto) else to_proto(model))
