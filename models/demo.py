"""A real sentence encoder and a digits network, compiled for this machine: ``make demo``.

    python -m graphwright.models.demo [FOLDER]      # the artifacts go there; out/demo unless said otherwise
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from . import digits, minilm
from .catalogue import Sample
from .session import Runs

SAMPLES = 4


@dataclass(frozen=True)
class Case:
    """A model of the demonstration: how it is captured and called, further real inputs, and the figure before and after."""

    name: str
    capture: Callable[[], object]
    call: Callable[[], tuple[object, ...]]
    samples: Callable[[], list[Sample]]
    metric: Callable[[Runs], float]
    max_drop: float


def sentence_similarity(runner: Runs) -> float:
    """Spearman on STS-B where the data is at hand, else cosine to the torch model."""
    (entry,) = minilm.entries()
    return entry.metric.measure(runner, None)


def digits_accuracy(runner: Runs) -> float:
    """Top-1 on digits held out of training."""
    return digits.accuracy(runner)


CASES = (
    Case("digits_cnn", digits.program, digits.example_inputs, lambda: list(digits.feeds(SAMPLES, "calibration")), digits_accuracy, 0.002),
    Case("minilm_l6", minilm.program, minilm.example_inputs, lambda: list(minilm.feeds(SAMPLES, "calibration")), sentence_similarity, 0.0005),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Compile both models, print their reports and what it came to; returns the exit code."""
    words = sys.argv[1:] if arguments is None else arguments
    folder = Path(words[0]) if words else Path("out") / "demo"
    lines = [compile_case(case, folder / case.name) for case in CASES]
    print("\nIn short:", *lines, sep="\n  ")
    return 0


def compile_case(case: Case, folder: Path) -> str:
    """Compile one model into ``folder`` and print its report; returns the result in a line."""
    from rich.console import Console

    from .. import compile
    from ..compiler.report_table import print_report

    print(f"\n{case.name}: capturing")
    model = case.capture()
    print(f"{case.name}: compiling")
    started = time.perf_counter()
    artifact = compile(model, case.call(), calibration=case.samples(), metric=case.metric, max_drop=case.max_drop, output=folder)
    seconds = time.perf_counter() - started
    report = artifact.report
    print_report(report, Console())
    latency, accuracy = report.latency, report.accuracy
    if latency is None or accuracy is None:
        return f"{case.name}: {report.verdict}"
    return (
        f"{case.name}: {latency.before_ms:.2f} ms -> {latency.after_ms:.2f} ms (ratio {latency.ratio:.3f}, 95 % {latency.low:.3f} to {latency.high:.3f}), "
        f"{case.metric.__name__} {accuracy.before:.4f} -> {accuracy.after:.4f}, compiled in {seconds:.0f} s, in {folder}"
    )


if __name__ == "__main__":
    sys.exit(main())
