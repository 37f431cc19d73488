"""How many threads generated code runs on.

TVM takes half of the processors of an x86 machine for hyper-threads and leaves them idle; where they are not (most virtual machines), half of the machine
would do nothing. Its threads are told here, once in each thread that calls generated code, since each has a pool of its own; a pool that
ran a kernel before stays as it is. What TVM_NUM_THREADS or OMP_NUM_THREADS say holds.
"""

from __future__ import annotations

import os
from pathlib import Path

SAID = ("TVM_NUM_THREADS", "OMP_NUM_THREADS")
SPINS, ENOUGH = "TVM_THREAD_POOL_SPIN_COUNT", "100"
"""How often a thread looks for work before it sleeps: long enough for the next kernel of a run, and not for the next run, which may be another runtime's."""
SIBLINGS = "/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
ANYWHERE = -3
"""TVM's number for threads that the system may move between all processors named; others are pinned, and then meet ONNX Runtime's on one of them."""


def settle_threads() -> None:
    """Let code that this thread calls from now on use every core that the process may run on."""
    os.environ.setdefault(SPINS, ENOUGH)  # TVM asks nobody else.
    if any(os.environ.get(name) for name in SAID):
        return
    import tvm_ffi

    configure = tvm_ffi.get_global_func("runtime.config_threadpool", allow_missing=True)
    if configure is not None:
        here = processors()
        count = cores(here)
        configure(ANYWHERE, count, [str(one) for one in here], count)


def processors() -> tuple[int, ...]:
    """The processors that this process may run on."""
    return tuple(sorted(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else tuple(range(os.cpu_count() or 1))


def cores(here: tuple[int, ...]) -> int:
    """How many cores these processors are; hyper-threads of one core count once."""
    return max(1, len({_core(one) for one in here}))


def _core(processor: int) -> str:
    try:
        return Path(SIBLINGS.format(processor)).read_text(encoding="ascii").strip()
    except OSError:
        return str(processor)
