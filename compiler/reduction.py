"""What is asked for to be taken out of a model, and how it is to recover: `--prune`, `--rank`, `--sparsity` and `--recover` as passes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .core.errors import UsageError
from .core.passes import Pass, parse_pipeline

__all__ = ["REDUCTIONS", "reductions", "with_reductions"]

MERGING = "merge-parallel"
"""The pass that lays matrices of one input side by side: whole ones are pruned and factorised better."""
LATER = ("fuse", "settle-opset")
STORING = "store-sparse"
"""The pass that stores weights with many zeros in less room: after all others, for it leaves them no constants to look at."""


@dataclass(frozen=True)
class Reduction:
    """The pass that an option means, and the options of that pass which its number may be, each with what it looks like then."""

    step: str
    amounts: Mapping[str, str]


PART, WHOLE, NUMBER = r"0?\.\d+", r"\d+", r"\d+(\.\d*)?|\.\d+"
REDUCTIONS = {
    "prune": Reduction("prune-structured", {"ratio": NUMBER}),
    "rank": Reduction("factorize", {"ratio": PART, "rank": WHOLE}),
    "sparsity": Reduction("sparsify", {"amount": rf"{NUMBER}|\d+:\d+"}),
    "recover": Reduction("recover", {"minutes": NUMBER}),
}
"""In the order in which they run."""


def reductions(asked: Mapping[str, str | float | None]) -> tuple[Pass, ...]:
    """The passes that options mean: ``{"prune": "0.3,of=parameters"}`` is ``prune-structured{ratio=0.3,of=parameters}``. Options alone do, too.

    Raises UsageError naming the option when its number or an option of the pass cannot be read.
    """
    return tuple(_step(option, found, str(asked[option])) for option, found in REDUCTIONS.items() if asked.get(option) is not None)


def with_reductions(steps: Sequence[Pass], added: Sequence[Pass]) -> tuple[Pass, ...]:
    """The passes with those added where they belong: before matrices are merged, weights quantised and kernels fused.

    Raises UsageError when one of them is among the passes already.
    """
    twice = {step.name for step in added} & {step.name for step in steps}
    if twice:
        raise UsageError(f"'{min(twice)}' is asked for twice: by an option of its own and in the passes")
    place = next((place for place, step in enumerate(steps) if step.name == MERGING or step.name in LATER or step.whole or _lossy(step)), len(steps))
    storing = () if not added or any(step.name == STORING for step in steps) else parse_pipeline(STORING)
    return (*steps[:place], *added, *steps[place:], *storing)


def _step(option: str, found: Reduction, text: str) -> Pass:
    first, comma, rest = text.partition(",")
    amount = next((name for name, pattern in found.amounts.items() if re.fullmatch(pattern, first.strip())), None)
    if amount is None and "=" not in first:
        raise UsageError(f"--{option} takes {' or '.join(found.amounts)}, and options of '{found.step}' behind it, not '{text}'")
    try:
        (step,) = parse_pipeline(f"{found.step}{{{first if amount is None else f'{amount}={first.strip()}'}{comma}{rest}}}")
    except UsageError as error:
        raise UsageError(f"--{option} {text}: {error}") from None
    return step


def _lossy(step: Pass) -> bool:
    return step.drift.value == "lossy"
