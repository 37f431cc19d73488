"""Kernels are measured on other machines through TVM's tracker and servers; here these are two processes behind loopback."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

tvm = pytest.importorskip("tvm")
pytest.importorskip("tornado")

from graphwright.backends.tvm.tuning.session import read_device  # noqa: E402
from graphwright.backends.tvm.tuning.tune import Budget, tune_module  # noqa: E402
from graphwright.backends.tvm.tuning.worker import Device  # noqa: E402
from graphwright.backends.tvm.tuning.workshop import Workshop, registered  # noqa: E402
from graphwright.compiler.core.errors import BackendMissing, UsageError  # noqa: E402

from .conftest import Module  # noqa: E402

KEY = "loop"
PATIENCE_S = 90


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextlib.contextmanager
def command(*words: str) -> Iterator[None]:
    """``graphwright rpc`` in the background, with all that it starts."""
    process = subprocess.Popen([sys.executable, "-m", "graphwright.tools.main", "rpc", *words], start_new_session=True, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_for(device: Device, count: int) -> None:
    """Wait until the tracker has that many devices."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        with contextlib.suppress(BackendMissing):
            if registered(device) >= count:
                return
        time.sleep(0.2)
    raise AssertionError("the devices did not register")


@pytest.mark.slow
def test_two_devices_behind_a_tracker_tune_one_model(tmp_path: Path, target: tvm.target.Target, make_module: Module) -> None:
    device = Device(tracker=f"127.0.0.1:{free_port()}", key=KEY)
    port = device.tracker.rpartition(":")[2]
    with (
        command("tracker", "--port", port),
        command("server", "--key", KEY, "--tracker", device.tracker),
        command("server", "--key", KEY, "--tracker", device.tracker),
    ):
        wait_for(device, 2)
        with Workshop(device) as workshop:
            assert workshop.width == 2
        done = tune_module(make_module((16, 16, 32)), target, tmp_path, Budget(trials=4), lambda _: None, device=device)
    assert (done.measured, done.failed) == (4, 0)
    assert 0 < done.seconds_after <= done.seconds_before


def test_a_tracker_that_is_not_there_is_named() -> None:
    with pytest.raises(BackendMissing, match="no RPC tracker answers"):
        Workshop(Device(tracker=f"127.0.0.1:{free_port()}", key=KEY))


@pytest.mark.parametrize("text", ["localhost", "localhost/pi", "localhost:x/pi", "localhost:9190/", ":9190/pi"])
def test_a_device_that_is_written_wrong_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="HOST:PORT/KEY"):
        read_device(text)


def test_a_device_is_read() -> None:
    assert read_device("10.0.0.7:9190/pi4") == Device(tracker="10.0.0.7:9190", key="pi4")
