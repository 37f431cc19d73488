"""``python tests/fuzz/main.py --graphs 5000 --seed 0``: random models through every rule, compared with themselves.

A model that fails is made smaller and printed in ONNX text, with the rule to blame; it is also written to ``out/fuzz``. Exit code 1 when one failed.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

import onnx

from graphwright.compiler.core.errors import GraphwrightError
from graphwright.tests.fuzz.generator import random_model
from graphwright.tests.fuzz.shrink import shrunk
from graphwright.tests.fuzz.trial import Fault, Trial, attempt, referee, text_of

ENDED = Fault("", "ended", "the process ended")
SECONDS = 120
"""How long one model may take."""


@dataclass(frozen=True)
class Failure:
    """A seed whose model fails, and that model made small."""

    seed: int
    fault: Fault
    text: str


def main() -> int:
    """Run the seeds; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--graphs", type=int, default=5000, help="how many models")
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--whole", action="store_true", help="do not make failing models smaller")
    parser.add_argument("--stop", type=int, default=20, help="stop after so many failures")
    arguments = parser.parse_args()
    folder = Path("out") / "fuzz"
    folder.mkdir(parents=True, exist_ok=True)
    start, failures, rules, ran = time.perf_counter(), [], Counter[str](), 0
    for done, (seed, trial) in enumerate(trials(range(arguments.seed, arguments.seed + arguments.graphs)), 1):
        ran += trial.ran
        rules.update(trial.rules)
        if trial.fault is not None:
            failure = Failure(seed, trial.fault, text_of(random_model(seed)) if arguments.whole else small(seed, trial.fault))
            failures.append(failure)
            report(failure, folder)
        if done % 100 == 0:
            rate = (time.perf_counter() - start) / done
            print(f"{done} models, {ran} ran, {len(failures)} failed, {len(rules)} rules fired, {rate:.2f} s each", flush=True)
        if len(failures) >= arguments.stop:
            break
    print(f"{ran} models ran, {len(failures)} failed; {sum(rules.values())} rewrites of {len(rules)} rules in {time.perf_counter() - start:.0f} s")
    by_rule = Counter(failure.fault.rule or failure.fault.kind for failure in failures)
    print("\n".join(f"  {count} {rule}" for rule, count in by_rule.most_common()))
    return 1 if failures else 0


def trials(seeds: range) -> Iterator[tuple[int, Trial]]:
    """Try every seed in a process of its own kind, which is replaced when a model ends it.

    A model that ends the process unoptimised says nothing about us, and counts as one that does not run.
    """
    pool = ProcessPoolExecutor(1)
    for seed in seeds:
        try:
            yield seed, pool.submit(trial_of, seed).result(timeout=SECONDS)
        except (BrokenProcessPool, TimeoutError):
            pool.shutdown(wait=False, cancel_futures=True)
            pool = ProcessPoolExecutor(1)
            try:
                ran = pool.submit(runs, seed).result(timeout=SECONDS)
                yield seed, Trial(ran, (), ENDED if ran else None)
            except (BrokenProcessPool, TimeoutError):
                pool.shutdown(wait=False, cancel_futures=True)
                pool = ProcessPoolExecutor(1)
                yield seed, Trial(ran=False)
    pool.shutdown()


def trial_of(seed: int) -> Trial:
    """Try the model of a seed."""
    return attempt(random_model(seed))


def runs(seed: int) -> bool:
    """Whether the model of a seed runs unoptimised, on inputs that could be made for it."""
    try:
        referee(random_model(seed))
    except GraphwrightError:
        return False
    return True


def small(seed: int, fault: Fault) -> str:
    """A small model that fails as the seed's does."""
    model = random_model(seed)
    if fault.kind == ENDED.kind:
        return text_of(model)

    def fails(candidate: onnx.ModelProto) -> bool:
        found = attempt(candidate, (fault.target,)).fault
        return found is not None and found.kind == fault.kind and found.rule == fault.rule

    return text_of(shrunk(model, fails))


def report(failure: Failure, folder: Path) -> None:
    """Print a failure, and write it down."""
    fault = failure.fault
    head = f"seed {failure.seed} [{fault.target}] {fault.kind}, rule {fault.rule or '(none)'}: {fault.reason}"
    print(f"\nFAILED {head}\n{failure.text}", flush=True)
    (folder / f"{failure.seed}.onnxtxt").write_text(f"// {head}\n{failure.text}\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
