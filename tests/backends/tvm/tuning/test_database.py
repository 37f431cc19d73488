"""Records outlive the process that writes them, and are never read wrong."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

tvm = pytest.importorskip("tvm")

from graphwright.backends.tvm.tuning.database import LOCK, RECORDS, WORKLOADS, folder_of, load_records, open_records  # noqa: E402
from graphwright.backends.tvm.tuning.spaces import our_schedules  # noqa: E402
from graphwright.backends.tvm.tuning.tasks import Task  # noqa: E402


def fill(root: Path, task: Task, times: list[float | None]) -> None:
    """Write one record for each time, with schedules of ours."""
    with open_records(root, task.target) as records:
        for seconds, schedule in zip(times, our_schedules(task), strict=False):
            records.add(task, schedule.trace, seconds)


def test_what_was_measured_is_there_when_the_database_is_opened_again(tmp_path: Path, task: Task) -> None:
    fill(tmp_path, task, [3e-6, 2e-6, None])
    with open_records(tmp_path, task.target) as records:
        assert (records.trials(task), records.best(task), records.first(task)) == (3, 2e-6, 3e-6)
        first, second, third, fourth = (schedule.trace for schedule, _ in zip(our_schedules(task), range(4), strict=False))
        assert [records.knows(task, trace) for trace in (first, second, third, fourth)] == [True, True, True, False]


def test_a_failure_is_never_chosen(tmp_path: Path, task: Task) -> None:
    fill(tmp_path, task, [None])
    records = load_records(tmp_path, task.target)
    assert records is not None
    assert records.query_tuning_record(task.module, task.target, "main") is None


@pytest.mark.parametrize("name", [RECORDS, WORKLOADS])
def test_a_line_that_a_killed_process_left_half_written_is_dropped(tmp_path: Path, task: Task, name: str) -> None:
    fill(tmp_path, task, [3e-6, 2e-6])
    path = folder_of(tmp_path, task.target) / name
    whole = path.read_text()
    path.write_text(whole + whole[: len(whole) // 3])
    assert load_records(tmp_path, task.target) is not None
    with open_records(tmp_path, task.target) as records:
        assert records.trials(task) == 2
    assert path.read_text() == whole


def test_records_of_a_lost_workload_are_left_out(tmp_path: Path, task: Task) -> None:
    fill(tmp_path, task, [3e-6])
    (folder_of(tmp_path, task.target) / WORKLOADS).write_text("")
    records = load_records(tmp_path, task.target)
    assert records is not None and len(records) == 0
    with open_records(tmp_path, task.target) as opened:
        assert opened.trials(task) == 0


def test_another_processor_has_another_database(tmp_path: Path, task: Task) -> None:
    other = tvm.target.Target({"kind": "llvm", "mcpu": "x86-64-v3"})
    assert folder_of(tmp_path, task.target) != folder_of(tmp_path, other) != folder_of(tmp_path, other, "pi4")


def test_a_second_writer_waits_and_says_so(tmp_path: Path, task: Task) -> None:
    fill(tmp_path, task, [3e-6])
    lock = folder_of(tmp_path, task.target) / LOCK
    program = f"import fcntl,time; file=open({str(lock)!r},'a'); fcntl.flock(file,fcntl.LOCK_EX); print('held',flush=True); time.sleep(0.6)"
    holder = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    assert holder.stdout is not None and holder.stdout.readline()
    told: list[str] = []
    with open_records(tmp_path, task.target, progress=told.append) as records:
        assert records.trials(task) == 1
    assert told and "waiting" in told[0]
    holder.wait()
