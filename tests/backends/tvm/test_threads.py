"""How many threads generated code runs on: those of the machine, unless somebody said otherwise."""

import os
import subprocess
import sys

import pytest

pytest.importorskip("tvm")

from graphwright.backends.tvm.threads import SAID, cores, processors  # noqa: E402

PROGRAM = """
import threading, tvm
from graphwright.backends.tvm.threads import settle_threads
count = tvm.get_global_func("runtime.NumThreads")
def tell():
    settle_threads()
    print(count())
tell()
other = threading.Thread(target=tell)
other.start()
other.join()
"""


def told(said=None):
    surroundings = {name: value for name, value in os.environ.items() if name not in SAID} | (said or {})
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=surroundings, capture_output=True, text=True, check=True, timeout=120)
    return [int(line) for line in done.stdout.split()]


def test_every_thread_that_calls_gets_all_cores():
    assert told() == [cores(processors())] * 2


def test_what_the_user_says_holds():
    assert told({"TVM_NUM_THREADS": "1"}) == [1, 1]


def test_processors_of_one_core_count_once(monkeypatch, tmp_path):
    for processor, twins in enumerate(["0,2", "1", "0,2"]):
        (tmp_path / str(processor)).write_text(twins)
    monkeypatch.setattr("graphwright.backends.tvm.threads.SIBLINGS", str(tmp_path / "{}"))
    assert cores((0, 1, 2)) == 2
    assert cores((0, 5)) == 2
