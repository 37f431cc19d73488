"""What is asked for to be taken out of a model, and how it is to recover: `--prune`, `--rank`, `--sparsity` and `--recover` as passes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .core.errors import UsageError
from .core.passes import Pass, parse_pipeline, pass_classes

__all__ = ["REDUCTIONS", "reductions", "with_reductions"]

MERGING = "merge-parallel"
"""The pass that lays matrices of one input side by side: whole ones are pruned and factorised better."""
LATER = ("fuse", "settle-opset")


@dataclass(frozen=True)
class Reduction:
    """The pass that an option means, and the option of that pass which its number is."""

    step: str
    amount: str


REDUCTIONS = {
    "prune": Reduction("prune-structured", "ratio"),
    "rank": Reduction("factorize", "ratio"),
    "sparsity": Reduction("sparsify", "amount"),
    "recover": Reduction("recover", "minutes"),
}
"""In the order in which they run."""


def reductions(asked: Mapping[str, str | float | None]) -> tuple[Pass, ...]:
    """The passes that options mean: ``{"prune": "0.3,of=latency"}`` is ``prune-structured{ratio=0.3,of=latency}``.

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
    return (*steps[:place], *added, *steps[place:])


def _step(option: str, found: Reduction, text: str) -> Pass:
    amount, comma, rest = text.partition(",")
    if found.step not in pass_classes():
        raise UsageError(f"--{option} needs the pass '{found.step}', which is not there")
    try:
        (step,) = parse_pipeline(f"{found.step}{{{found.amount}={amount.strip()}{comma}{rest}}}")
    except UsageError as error:
        raise UsageError(f"--{option} {text}: {error}") from None
    return step


def _lossy(step: Pass) -> bool:
    return step.drift.value == "lossy"
