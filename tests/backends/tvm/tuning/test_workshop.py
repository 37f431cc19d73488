"""Kernels are built and timed where they can do no harm."""

from __future__ import annotations

import dataclasses
import os
import signal

import pytest

tvm = pytest.importorskip("tvm")

from tvm.ir import save_json  # noqa: E402

from graphwright.backends.tvm.tuning.serial import target_json  # noqa: E402
from graphwright.backends.tvm.tuning.spaces import our_schedules  # noqa: E402
from graphwright.backends.tvm.tuning.tasks import Task  # noqa: E402
from graphwright.backends.tvm.tuning.worker import Job  # noqa: E402
from graphwright.backends.tvm.tuning.workshop import Workshop  # noqa: E402


def job_of(task: Task) -> Job:
    """The first schedule of a task."""
    return Job(save_json(next(our_schedules(task)).mod), target_json(task.target))


def crashing() -> str:
    """A kernel that writes far outside of its buffer."""
    from tvm.script import tirx as T

    @T.prim_func(s_tir=True)
    def main(x: T.Buffer((16,), "float32")) -> None:
        for i in range(16):
            with T.sblock("write"):
                x[(i + 1) * 120000000] = T.float32(1)

    return save_json(tvm.IRModule({"main": main}))


def test_good_bad_hopeless_and_endless_kernels_are_told_apart(task: Task) -> None:
    good = job_of(task)
    with Workshop() as workshop:
        broken, late = dataclasses.replace(good, module="{}"), dataclasses.replace(good, timeout_s=0.0)
        times = workshop.measure([good, broken, late, dataclasses.replace(good, best=1e-12)])
        assert times[0].seconds is not None and 0 < times[0].seconds < 1
        assert times[1].seconds is None and times[1].error
        assert times[2].seconds is None and "too long" in times[2].error
        assert times[3].seconds is not None and times[3].seconds > 0
        process = workshop._process
        assert process is not None
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        again = workshop.measure([good])
        assert again[0].seconds is not None, "a process that died is started again"


def test_a_kernel_that_crashes_is_a_failed_trial(task: Task) -> None:
    good = job_of(task)
    with Workshop() as workshop:
        first, second = workshop.measure([dataclasses.replace(good, module=crashing()), good])
    assert first.seconds is None and "crashed" in first.error
    assert second.seconds is not None
