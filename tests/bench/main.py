"""``make bench``: all benchmarks, or the ones named: exports, families, rewrites, scale, models, cpu, threads, cuda, plan, tvm, coverage, quant, prune.

Each prints a table and writes its figures as JSON into ``out/bench``. Exit code 1 when a claim does not hold.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path

NAMES = ("exports", "families", "rewrites", "scale", "models", "cpu", "threads", "cuda", "plan", "tvm", "coverage", "quant", "prune")


def main() -> int:
    """Run the benchmarks; returns the exit code."""
    parser = argparse.ArgumentParser(prog="make bench ARGS=", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"any of {', '.join(NAMES)}; all when none is named")
    parser.add_argument("--only", metavar="TEXT", default="", help="only models (categories of rewrites) whose name holds this")
    parser.add_argument("--seconds", type=float, default=10.0, help="how long one comparison may take")
    arguments = parser.parse_args()
    unknown = set(arguments.names) - set(NAMES)
    if unknown:
        parser.error(f"there is no benchmark '{min(unknown)}'; there are {', '.join(NAMES)}")
    folder = Path("out") / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    missed = []
    for name in arguments.names or NAMES:
        print(f"\n== {name}", flush=True)
        missed += importlib.import_module(f"bench_{name}").run(folder, arguments.only, arguments.seconds)
    for line in missed:
        print(f"MISSED: {line}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
