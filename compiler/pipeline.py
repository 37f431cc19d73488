"""Levels and pipelines: which passes run for a target."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from .core.drift import LOSSY
from .core.errors import UsageError
from .core.passes import Pass, format_pass, parse_pipeline, pass_classes
from .core.rulepass import RulePass
from .core.target import Target
from .surgeon import Operation, SurgeonFunction, SurgeonPass

COMPRESSION = {
    "int8": "quantize-static",
    "int8-dynamic": "quantize-dynamic",
    "int4": "quantize-weights{bits=4}",
    "nf4": "quantize-weights{method=nf4}",
    "fp16": "cast-half",
    "bf16": "cast-half{dtype=bfloat16}",
    "fp8": "quantize-weights{method=fp8}",
}
"""The pass that brings a model to a precision."""
SWEEP = "eliminate-dead-code"
"""What drops the weights that compression stored anew."""
INFORMED = {"int8-dynamic": "smooth,quantize-dynamic", "int4": "quantize-weights{method=gptq}"}
"""What does it better where there is calibration data."""
MIXED = "mixed"
"""The precision that is chosen site by site (`allocation`)."""
PRECISIONS = ("fp32", *COMPRESSION, MIXED)
SMALL = frozenset({"int4", "nf4", "fp16", "bf16", "fp8"})
"""Precisions that are asked for because of the size: what they make ships although it may be slower."""
CALIBRATED = frozenset({"int8"})
"""Precisions that cannot do without calibration data."""
LEVELS = (0, 1, 2, 3)

NORMALISE = "inline-functions,normalise-opset"
CANONICAL = f"{NORMALISE},constants-to-initialisers,deduplicate-initialisers"
CLEAN = "drop-no-ops,fold-constants,fold-shapes,eliminate-common-subexpressions,eliminate-dead-code"
CONTROLLED = f"{CANONICAL},{CLEAN},simplify-control-flow,simplify-quantised,{CLEAN}"
PLAINER = f"raise,fold-weights,simplify-algebra,place-transposes,move-data,{CLEAN}"
SETTLED = "deduplicate-initialisers,settle-opset"
BEFORE = {0: CANONICAL, 1: f"{CONTROLLED},fold-weights,move-data,{CLEAN}", 2: f"{CONTROLLED},{PLAINER},{PLAINER},merge-parallel,move-data"}
"""What stands before compression at each level."""
AFTER = {0: "settle-opset", 1: SETTLED, 2: f"fuse,{CLEAN},{SETTLED}"}
"""What stands after it."""

Step = Pass | SurgeonFunction
Level = int | str | Sequence[Step]
"""A level from 0 to 3, a pipeline as text, or passes (a function on ``gs.Graph`` counts as one)."""


def pipeline_for(target: Target, level: int, precision: str, informed: bool = False, reduced: bool = False) -> tuple[Pass, ...]:
    """The passes of a level: 0 only normalises, 1 cleans up and folds, 2 and 3 also raise and fuse.

    Level 3 runs those of level 2, and then searches among its parts by measuring (`search.variants`). Any other precision than fp32 puts its pass
    before the fusions; ``informed`` says that there is calibration data, ``reduced`` that passes will be added (`reduction`). The passes are the same
    for every target: a rule only fires where the target has the kernel it needs. Raises UsageError for a level or precision that does not exist.
    """
    refuse_unknown(precision)
    if level not in LEVELS:
        raise UsageError(f"there is no level {level}; the levels are {', '.join(map(str, LEVELS))}")
    stage = min(level, 2)
    if precision not in COMPRESSION:
        return parse_pipeline(NORMALISE if level == 0 and precision != MIXED and not reduced else f"{BEFORE[stage]},{AFTER[stage]}")
    return parse_pipeline(f"{BEFORE[stage]},{_compression(precision, informed)},{SWEEP},{AFTER[stage]}")


def steps_of(level: Level, target: Target, precision: str, informed: bool = False, reduced: bool = False) -> tuple[Pass, ...]:
    """The passes that ``level`` means: see `Level`. The pass of a precision goes into passes of one's own that have no compression themselves."""
    refuse_unknown(precision)
    if isinstance(level, int):
        return pipeline_for(target, level, precision, informed, reduced)
    steps = parse_pipeline(level) if isinstance(level, str) else tuple(_as_pass(step) for step in level)
    if precision not in COMPRESSION or any(step.drift is LOSSY for step in steps):
        return steps
    return insert(steps, parse_pipeline(_compression(precision, informed)))


def needs_whole(steps: Sequence[Pass]) -> int:
    """How many of the passes there are up to the last that compresses a model as a whole; 0 when there is none."""
    return max((place + 1 for place, step in enumerate(steps) if step.whole), default=0)


def _compression(precision: str, informed: bool) -> str:
    return INFORMED.get(precision, COMPRESSION[precision]) if informed else COMPRESSION[precision]


def refuse_unknown(precision: str) -> None:
    """Raise UsageError for a precision that does not exist."""
    if precision not in PRECISIONS:
        raise UsageError(f"the precision '{precision}' is not there; there are: {', '.join(PRECISIONS)}")


def insert(steps: Sequence[Pass], compression: Sequence[Pass]) -> tuple[Pass, ...]:
    """The passes with compression put where it belongs: before fusion, or before the settling at the end, whichever comes first."""
    place = next((place for place, step in enumerate(steps) if step.name in ("fuse", "settle-opset")), len(steps))
    return (*steps[:place], *compression, *parse_pipeline(SWEEP), *steps[place:])


def split(steps: Sequence[Pass]) -> tuple[tuple[Pass, ...], tuple[Pass, ...], tuple[Pass, ...]]:
    """What comes before compression, the passes from the first to the last that compress, and what comes after; without compression all comes after."""
    lossy = [place for place, step in enumerate(steps) if step.drift is LOSSY]
    first, end = (lossy[0], lossy[-1] + 1) if lossy else (0, 0)
    return tuple(steps[:first]), tuple(steps[first:end]), tuple(steps[end:])


def with_options(steps: Sequence[Pass], **options: object) -> tuple[Pass, ...]:
    """The passes, those that compress with these options where they have them."""
    return tuple(dataclasses.replace(step, **_own(step, options)) if step.drift is LOSSY else step for step in steps)


def demand(steps: Sequence[Pass], **options: object) -> tuple[Pass, ...]:
    """As `with_options`. Raises UsageError when no pass that compresses has an option."""
    for name in options:
        if not any(step.drift is LOSSY and _has(step, name) for step in steps):
            raise UsageError(f"no pass of this precision has the option '{name}'; 'graphwright passes NAME' shows the options of one")
    return with_options(steps, **options)


def narrow(steps: Sequence[Pass], only: Sequence[str] = (), without: Sequence[str] = ()) -> tuple[Pass, ...]:
    """The passes with only these passes and rules, and without those. Raises UsageError for a name that is neither."""
    known = {step.name for step in steps} | {item.name for step in steps if isinstance(step, RulePass) for item in step.chosen()}
    for name in (*only, *without):
        if name not in known and name not in pass_classes():
            raise UsageError(f"there is no pass or rule '{name}' in this pipeline; 'graphwright passes' lists them")
    kept = [_keep_only(step, only) for step in steps] if only else list(steps)
    return tuple(left for step in kept if step is not None and (left := _leave_out(step, without)) is not None)


def describe_level(level: Level) -> str:
    """A level as the report names it."""
    return str(level) if isinstance(level, int) else "custom"


def leaving(steps: Sequence[Pass], names: Sequence[str]) -> tuple[Pass, ...]:
    """The passes, those that compress site by site with these left as they are. Raises UsageError when one of them cannot leave sites out."""
    changed = []
    for step in steps:
        if step.drift is LOSSY and not step.whole and names:
            if not _has(step, "keep"):
                raise UsageError(f"'{step.name}' compresses all or nothing: it has no option 'keep'")
            step = dataclasses.replace(step, **{"keep": tuple(dict.fromkeys((*_names(step, "keep"), *names)))})
        changed.append(step)
    return tuple(changed)


def alone(steps: Sequence[Pass], name: str) -> tuple[Pass, ...]:
    """The passes, those that compress site by site doing so with this one only. Raises UsageError when one of them cannot be told which."""
    changed = []
    for step in steps:
        if step.drift is LOSSY and not step.whole:
            if not _has(step, "only"):
                raise UsageError(f"'{step.name}' compresses all or nothing: it has no option 'only'")
            chosen = _names(step, "only")
            if chosen and name not in chosen:
                continue
            step = dataclasses.replace(step, **{"only": (name,)})
        changed.append(step)
    return tuple(changed)


def _names(step: Pass, option: str) -> tuple[str, ...]:
    return tuple(getattr(step, option))


def _own(step: Pass, options: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in options.items() if _has(step, name)}


def _has(step: Pass, option: str) -> bool:
    return any(field.name == option for field in dataclasses.fields(step))


def _as_pass(step: Step) -> Pass:
    if isinstance(step, Pass):
        return step
    if callable(step):
        return SurgeonPass(Operation(step))
    raise UsageError(f"{step!r} is no pass: give a Pass, or a function that takes a gs.Graph")


def _keep_only(step: Pass, only: Sequence[str]) -> Pass | None:
    if step.name in only:
        return step
    if not isinstance(step, RulePass):
        return None
    chosen = tuple(item.name for item in step.chosen() if item.name in only)
    return dataclasses.replace(step, only=chosen) if chosen else None


def _leave_out(step: Pass, without: Sequence[str]) -> Pass | None:
    if step.name in without:
        return None
    if not isinstance(step, RulePass):
        return step
    chosen = [item.name for item in step.chosen()]
    removed = tuple(name for name in chosen if name in without)
    if not removed:
        return step
    if len(removed) == len(chosen):
        return None
    return dataclasses.replace(step, without=(*step.without, *removed))


def recipe(steps: Sequence[Pass]) -> str:
    """The passes as text, one line; `parse_pipeline` reads it back unless a user's own passes are among them."""
    return ",".join(format_pass(step) for step in steps)
