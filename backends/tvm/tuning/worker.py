"""A process that builds and times kernels for another one, each in a child of its own.

It is started afresh (see `workshop`), imports TVM once and forks for every kernel: a kernel that crashes, hangs or
corrupts memory takes only its child along, and the children start in a millisecond because nothing here has ever run a kernel or started a thread.
Several children compile at a time; on this machine they are timed one after the other. It ends when its input ends, so it cannot outlive its owner.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import select
import signal
import struct
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

HEADER = struct.Struct("<Q")
SHORTEST_S = 0.01
"""One timing repeats its kernel until it lasts this long."""
REPEATS = 3
HOPELESS = 4.0
"""A kernel this many times slower than the best known is run once and no more."""


@dataclass(frozen=True)
class Device:
    """Where kernels run: ``kind`` is TVM's name of it ("cpu"); with ``tracker`` ("host:port") it is one registered there as ``key``."""

    kind: str = "cpu"
    tracker: str = ""
    key: str = ""
    compiler: str = ""
    """The C++ compiler that links for a remote device; "" is the one of this machine."""


@dataclass(frozen=True)
class Job:
    """A kernel to build and time: the module and target as TVM's JSON. ``best`` is the fastest time of its task so far, in seconds (0: none)."""

    module: str
    target: str
    device: Device = Device()
    best: float = 0.0
    timeout_s: float = 30.0


@dataclass(frozen=True)
class Timed:
    """Seconds a run, or why there are none."""

    seconds: float | None
    error: str = ""


@dataclass
class _Child:
    pid: int
    answers: int
    orders: int
    patience: float
    deadline: float


def write_frame(stream: BinaryIO, content: object) -> None:
    """Send one object."""
    data = pickle.dumps(content)
    stream.write(HEADER.pack(len(data)) + data)
    stream.flush()


def read_frame(stream: BinaryIO) -> Any:
    """Receive one object. Raises EOFError when the other side is gone."""
    (size,) = HEADER.unpack(_exactly(stream, HEADER.size))
    return pickle.loads(_exactly(stream, size))


def serve(source: BinaryIO, sink: BinaryIO) -> None:
    """Answer lists of jobs with lists of times until the input ends."""
    while True:
        try:
            jobs, width = read_frame(source)
        except EOFError:
            return
        write_frame(sink, run_jobs(jobs, width))


def run_jobs(jobs: Sequence[Job], width: int) -> list[Timed]:
    """Build and time, ``width`` children at a time."""
    found: list[Timed] = []
    for start in range(0, len(jobs), max(1, width)):
        group = jobs[start : start + max(1, width)]
        children = [_fork(job) for job in group]
        try:
            built = [_await(child) for child in children]
            if not any(job.device.tracker for job in group):
                found += [_time_alone(child, answer) for child, answer in zip(children, built, strict=True)]
                continue
            for child, answer in zip(children, built, strict=True):
                _order(child, answer)
            found += [_final(child, answer) for child, answer in zip(children, built, strict=True)]
        finally:
            for child in children:
                _end(child)
    return found


def _time_alone(child: _Child, answer: Timed | None) -> Timed:
    _order(child, answer)
    return _final(child, answer)


def _final(child: _Child, answer: Timed | None) -> Timed:
    return answer or _await(child) or Timed(None, "the kernel answered out of turn")


def _order(child: _Child, answer: Timed | None) -> None:
    if answer is None:
        child.deadline = time.monotonic() + child.patience
        with contextlib.suppress(OSError):
            os.write(child.orders, b"g")


def _fork(job: Job) -> _Child:
    answers, answer_end = os.pipe()
    order_end, orders = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(answers)
        os.close(orders)
        _live(job, answer_end, order_end)
    os.close(answer_end)
    os.close(order_end)
    return _Child(pid, answers, orders, job.timeout_s, time.monotonic() + job.timeout_s)


def _live(job: Job, answer_end: int, order_end: int) -> None:
    """All that a child does: build, say so, wait for its turn, time, answer, end."""
    _die_with_parent()
    try:
        with os.fdopen(answer_end, "wb") as sink:
            try:
                run = _build(job)
                write_frame(sink, None)
                if os.read(order_end, 1):
                    write_frame(sink, Timed(run()))
            except BaseException as error:
                write_frame(sink, Timed(None, f"{type(error).__name__}: {str(error)[-2000:]}"))
    finally:
        os._exit(0)


def _await(child: _Child) -> Timed | None:
    """The child's next answer: None for "built". A child that ends or takes too long has failed."""
    left = child.deadline - time.monotonic()
    ready, _, _ = select.select([child.answers], [], [], max(0.0, left))
    if not ready:
        return Timed(None, "it took too long")
    try:
        with os.fdopen(os.dup(child.answers), "rb", buffering=0) as stream:
            answer: Timed | None = read_frame(stream)
            return answer
    except EOFError:
        return Timed(None, "the kernel crashed")


def _end(child: _Child) -> None:
    with contextlib.suppress(OSError):
        os.kill(child.pid, signal.SIGKILL)
    with contextlib.suppress(OSError):
        os.waitpid(child.pid, 0)
    for handle in (child.answers, child.orders):
        with contextlib.suppress(OSError):
            os.close(handle)


def _build(job: Job) -> Any:
    """Compile the kernel; returns what times it."""
    from .kernels import local_timer, remote_timer

    return remote_timer(job) if job.device.tracker else local_timer(job)


def _die_with_parent() -> None:
    """Linux ends the child when its parent is killed; elsewhere it ends at its next answer."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def _exactly(stream: BinaryIO, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = stream.read(size - len(data))
        if not part:
            raise EOFError
        data += part
    return data


@contextlib.contextmanager
def _channels() -> Iterator[tuple[BinaryIO, BinaryIO]]:
    """This process's input and output; what kernels and libraries print goes to standard error instead."""
    with os.fdopen(os.dup(0), "rb") as source, os.fdopen(os.dup(1), "wb") as sink:
        os.dup2(2, 1)
        yield source, sink


def main() -> None:
    """Import what every child needs, then serve."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _die_with_parent()
    with _channels() as (source, sink):
        from . import kernels

        kernels.warm_up()
        serve(source, sink)
