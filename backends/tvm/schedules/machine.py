"""What schedules need to know of a processor."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tvm

FLOAT_BITS = 32


@dataclass(frozen=True)
class Machine:
    """``lanes`` floats fit into a vector register, of which there are ``registers``; ``threads`` work at a time."""

    lanes: int
    registers: int
    threads: int


def machine_of(target: tvm.target.Target) -> Machine:
    """The processor that a target names. Where LLVM knows no features of it, the least that its architecture has."""
    from tvm.target.codegen import target_has_features

    threads = int(target.attrs.get("num-cores", 0)) or len(os.sched_getaffinity(0))
    if target_has_features("avx512f", target):
        return Machine(16, 32, threads)
    if target_has_features("avx2", target):
        return Machine(8, 16, threads)
    arm = str(target.attrs.get("mtriple", "")).startswith(("aarch64", "arm64"))
    return Machine(4, 32 if arm else 16, threads)
