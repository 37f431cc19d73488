"""The owner's side of the process that builds and times kernels."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from types import TracebackType

from ....compiler.core.errors import BackendMissing
from .worker import Device, Job, Timed, read_frame, write_frame

PROGRAM = f"from {__name__.rpartition('.')[0]}.worker import main; main()"
ANSWER_S = 5.0
"""Within which a tracker has to answer."""


class Workshop:
    """Builds and times kernels in another process, ``width`` of them compiling at a time; started when first needed, started again when it dies.

    For a device behind a tracker, ``width`` is how many kernels are sent out at a time: one for each device registered there is right.
    """

    def __init__(self, device: Device | None = None, width: int | None = None) -> None:
        self.device = device or Device()
        self.width = width or (registered(self.device) if self.device.tracker else len(os.sched_getaffinity(0)))
        self._process: subprocess.Popen | None = None

    def measure(self, jobs: Sequence[Job]) -> list[Timed]:
        """The time of each job, in order; what kills the process fails all jobs that were with it."""
        process = self._started()
        assert process.stdin is not None and process.stdout is not None
        try:
            write_frame(process.stdin, (list(jobs), self.width))  # type: ignore[arg-type]
            times: list[Timed] = read_frame(process.stdout)  # type: ignore[arg-type]
            return times
        except (EOFError, OSError):
            self.close()
            return [Timed(None, "the process that builds kernels died")] * len(jobs)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(OSError):
            process.kill()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        process.wait()

    def __enter__(self) -> Workshop:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _started(self) -> subprocess.Popen:
        if self._process is None or self._process.poll() is not None:
            surroundings = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
            command = [sys.executable, "-c", PROGRAM]
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=surroundings, start_new_session=True)
        return self._process


def registered(device: Device) -> int:
    """How many devices the tracker has under the key. Raises BackendMissing when it does not answer or has none."""
    from tvm import rpc

    host, _, port = device.tracker.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=ANSWER_S).close()  # TVM itself would try for a minute
        known = rpc.connect_tracker(host, int(port)).summary()["server_info"]
    except (ValueError, OSError, RuntimeError) as error:
        raise BackendMissing(f"no RPC tracker answers at '{device.tracker}': {error}. Start one: graphwright rpc tracker --port {port or 9190}") from None
    count = sum(1 for one in known if str(one["key"]).partition(":")[2] == device.key)
    if not count:
        raise BackendMissing(f"the tracker at '{device.tracker}' has no device called '{device.key}'. Register one: graphwright rpc server --key {device.key}")
    return count
