"""What tuning has found, kept in two files of JSON lines that are only ever added to: MetaSchedule's own format.

A folder holds one database for each target, since the fastest schedule on one processor need not be that on another. Records are written as soon as
their batch is measured. One process writes at a time; a last line that a killed process left half-written is dropped when the files are opened.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .tasks import Task

if TYPE_CHECKING:
    import tvm
    from tvm.s_tir.meta_schedule.database import JSONDatabase
    from tvm.s_tir.schedule import Trace

WORKLOADS, RECORDS, SETTLED, LOCK = "workloads.jsonl", "records.jsonl", "settled.txt", "lock"
FAILED_S = 1e10
"""What MetaSchedule records as the time of a kernel that did not build or run; it never chooses such a record."""


class Records:
    """An open database. Use `open_records`."""

    def __init__(self, folder: Path) -> None:
        from tvm.s_tir.meta_schedule.database import JSONDatabase

        self.folder = folder
        self.tvm: JSONDatabase = JSONDatabase(str(folder / WORKLOADS), str(folder / RECORDS))
        self._trials: Counter[str] = Counter()
        self._best: dict[str, float] = {}
        self._first: dict[str, float] = {}
        self._traces: set[tuple[str, str]] = set()
        self._read()
        self._settled = set((folder / SETTLED).read_text().split()) if (folder / SETTLED).exists() else set()

    def trials(self, task: Task) -> int:
        """How many schedules of a task were measured, failures counted."""
        return self._trials[task.key]

    def best(self, task: Task) -> float | None:
        """The shortest time found for a task, in seconds."""
        return self._best.get(task.key)

    def first(self, task: Task) -> float | None:
        """The time of the first schedule of a task that worked: what an untuned build takes."""
        return self._first.get(task.key)

    def knows(self, task: Task, trace: Trace) -> bool:
        """Whether a schedule was measured already."""
        return (task.key, _text_hash(trace)) in self._traces

    def add(self, task: Task, trace: Trace, seconds: float | None) -> None:
        """Write down one measured schedule; None when it failed."""
        from tvm.s_tir.meta_schedule.database import TuningRecord

        workload = self.tvm.commit_workload(task.module)
        time_s = FAILED_S if seconds is None else seconds
        self.tvm.commit_tuning_record(TuningRecord(trace, workload, [time_s], task.target, task.arguments()))
        self._note(task.key, time_s, _text_hash(trace))

    def settled(self, task: Task) -> bool:
        """Whether all schedules of a task were measured."""
        return task.key in self._settled

    def settle(self, task: Task) -> None:
        """Remember that a task has no more schedules to measure."""
        self._settled.add(task.key)
        with (self.folder / SETTLED).open("a") as file:
            file.write(task.key + "\n")

    def _read(self) -> None:
        from tvm.s_tir.meta_schedule.utils import shash2hex

        keys: dict[object, str] = {}
        for record in self.tvm.get_all_tuning_records():
            key = keys.get(record.workload) or keys.setdefault(record.workload, shash2hex(record.workload.mod))
            self._note(key, min(float(seconds) for seconds in record.run_secs), _text_hash(record.trace))
        self._first = self._earliest()

    def _earliest(self) -> dict[str, float]:
        """The first time that worked of each task: TVM gives records by their times, the file has them in order."""
        from tvm.s_tir.meta_schedule.database import Workload
        from tvm.s_tir.meta_schedule.utils import shash2hex

        keys = [shash2hex(Workload.from_json(json.loads(line)).mod) for line in (self.folder / WORKLOADS).read_text().splitlines()]
        found: dict[str, float] = {}
        for line in (self.folder / RECORDS).read_text().splitlines():
            place, record = json.loads(line)
            if record[1][0] < FAILED_S:
                found.setdefault(keys[place], record[1][0])
        return found

    def _note(self, key: str, seconds: float, trace: str) -> None:
        self._trials[key] += 1
        self._traces.add((key, trace))
        if seconds < FAILED_S:
            self._first.setdefault(key, seconds)
            self._best[key] = min(seconds, self._best.get(key, seconds))


@contextlib.contextmanager
def open_records(root: Path, target: tvm.target.Target, device: str = "", progress: Callable[[str], None] | None = None) -> Iterator[Records]:
    """The database of a target (and of a kind of remote device), to write to; waits while another process has it open."""
    folder = folder_of(root, target, device)
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder / LOCK, progress):
        for name, lines in _usable(folder).items():
            _rewrite(folder / name, lines)
        yield Records(folder)


def load_records(root: Path, target: tvm.target.Target, device: str = "") -> JSONDatabase | None:
    """What is in the database now, to apply to a model; None when there is nothing. Another process may be writing."""
    from tvm.s_tir.meta_schedule.database import JSONDatabase

    folder = folder_of(root, target, device)
    if not (folder / RECORDS).exists():
        return None
    with tempfile.TemporaryDirectory() as place:
        for name, lines in _usable(folder).items():
            (Path(place) / name).write_text("".join(lines), encoding="utf-8")
        return JSONDatabase(str(Path(place) / WORKLOADS), str(Path(place) / RECORDS))


def folder_of(root: Path, target: tvm.target.Target, device: str = "") -> Path:
    """Where below ``root`` the records of a target lie."""
    import tvm

    facts = json.dumps([json.loads(_target_text(target)), tvm.__version__, device], sort_keys=True)
    return root / f"{target.kind.name}-{hashlib.sha256(facts.encode()).hexdigest()[:12]}"


def _target_text(target: tvm.target.Target) -> str:
    from .serial import target_json

    return target_json(target)


def _text_hash(trace: Trace) -> str:
    return hashlib.sha256(str(trace).encode()).hexdigest()


def _whole_lines(path: Path) -> list[str]:
    """The lines that are whole; what follows a broken one counts no more, since records name workloads by their place."""
    whole: list[str] = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True) if path.exists() else []:
        try:
            json.loads(line)
        except ValueError:
            return whole
        if not line.endswith("\n"):
            return whole
        whole.append(line)
    return whole


def _usable(folder: Path) -> dict[str, list[str]]:
    """File -> the lines of it that can be used: whole ones, and of the records those whose workload is there."""
    records = _whole_lines(folder / RECORDS)
    workloads = _whole_lines(folder / WORKLOADS)
    return {WORKLOADS: workloads, RECORDS: [line for line in records if json.loads(line)[0] < len(workloads)]}


def _rewrite(path: Path, lines: Sequence[str]) -> None:
    """Leave just these lines in a file, which has them all and mostly nothing else."""
    content = "".join(lines)
    if path.exists() and path.stat().st_size == len(content.encode()):
        return
    draft = path.with_suffix(".partial")
    draft.write_text(content, encoding="utf-8")
    draft.replace(path)


@contextlib.contextmanager
def _alone(path: Path, progress: Callable[[str], None] | None) -> Iterator[None]:
    """Hold a lock that goes with the process that holds it, however that ends."""
    try:
        import fcntl
    except ImportError:
        yield
        return
    with path.open("a") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if progress is not None:
                    progress(f"waiting for process that tunes into {path.parent} ({os.getpid()} waits)")
                time.sleep(0.2)
        yield
