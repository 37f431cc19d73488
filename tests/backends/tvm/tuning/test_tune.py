"""Tuning keeps its budget, goes on where it stopped, and measures nothing twice."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

tvm = pytest.importorskip("tvm")

from graphwright.backends.tvm.tuning.apply import tuned_scheduler  # noqa: E402
from graphwright.backends.tvm.tuning.costs import CostModel  # noqa: E402
from graphwright.backends.tvm.tuning.database import RECORDS, folder_of, open_records  # noqa: E402
from graphwright.backends.tvm.tuning.scheduler import Progress, next_task  # noqa: E402
from graphwright.backends.tvm.tuning.search import Search  # noqa: E402
from graphwright.backends.tvm.tuning.spaces import our_schedules  # noqa: E402
from graphwright.backends.tvm.tuning.tasks import Task, extract  # noqa: E402
from graphwright.backends.tvm.tuning.tune import Budget, tune_module  # noqa: E402
from graphwright.backends.tvm.tuning.workshop import Workshop  # noqa: E402

from .conftest import Module  # noqa: E402


def quiet(text: str) -> None:
    """Progress that nobody follows."""


def test_the_second_model_with_the_same_kernels_tunes_nothing(tmp_path: Path, target: tvm.target.Target, make_module: Module) -> None:
    first = tune_module(make_module((16, 16, 32)), target, tmp_path, Budget(trials=3), quiet)
    assert (first.kernels, first.measured, first.known, first.failed) == (1, 3, 0, 0)
    assert 0 < first.seconds_after <= first.seconds_before
    second = tune_module(make_module((16, 16, 32), names="another"), target, tmp_path, Budget(trials=3), quiet)
    assert (second.measured, second.known) == (0, 3)
    assert second.seconds_before == first.seconds_before and second.seconds_after == first.seconds_after


def test_every_kernel_is_measured_before_any_is_searched(tmp_path: Path, target: tvm.target.Target, make_module: Module) -> None:
    module = make_module((8, 16, 16), (8, 16, 32), (8, 16, 48))
    done = tune_module(module, target, tmp_path, Budget(trials=3), quiet)
    assert (done.kernels, done.measured) == (3, 3)
    with open_records(tmp_path, target) as records:
        assert [records.trials(task) for task in extract(module, target).tasks] == [1, 1, 1]


def test_a_tuned_module_computes_what_it_did(tmp_path: Path, target: tvm.target.Target, make_module: Module) -> None:
    module = make_module((16, 16, 32))
    tune_module(module, target, tmp_path, Budget(trials=2), quiet)
    scheduled = tuned_scheduler(target, tmp_path)(module)
    kernels = [function for _, function in scheduled.functions_items() if isinstance(function, tvm.tirx.PrimFunc)]
    assert all(kernel.attrs["tirx.is_scheduled"] for kernel in kernels)
    random = np.random.default_rng(0)
    x, w = random.standard_normal((16, 16), dtype=np.float32), random.standard_normal((16, 32), dtype=np.float32)
    from tvm import relax

    machine = relax.VirtualMachine(tvm.compile(scheduled, target=target), tvm.cpu())
    result = machine["main"](tvm.runtime.tensor(x), tvm.runtime.tensor(w))[0].numpy()
    np.testing.assert_allclose(result, np.maximum(x @ w, 0), rtol=1e-5, atol=1e-5)


PROGRAM = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # What runs in the background of a shell is born deaf to it.
from pathlib import Path
sys.path.insert(0, {here!r})
from conftest import module_of, this_machine
from graphwright.backends.tvm.tuning.tune import Budget, tune_module
done = tune_module(module_of((64, 64, 64), (64, 64, 128)), this_machine(), Path({root!r}), Budget(trials={trials}), lambda text: print(text, flush=True))
print("done", done.known, done.measured, done.interrupted, flush=True)
"""


def start(root: Path, trials: int) -> subprocess.Popen:
    """Tuning in a process of its own."""
    program = PROGRAM.format(here=str(Path(__file__).parent), root=str(root), trials=trials)
    return subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, start_new_session=True)


def lines_in(path: Path) -> int:
    """How many whole lines a file has."""
    return path.read_bytes().count(b"\n") if path.exists() else 0


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_tuning_that_was_ended_goes_on_where_it_stopped(tmp_path: Path, target: tvm.target.Target, how: signal.Signals) -> None:
    process = start(tmp_path, 200)
    path = folder_of(tmp_path, target) / RECORDS
    while lines_in(path) < 4:
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(how)
    text, _ = process.communicate(timeout=60)
    known = lines_in(path)
    if how == signal.SIGINT:
        assert text.splitlines()[-1].split()[0] == "done" and text.splitlines()[-1].split()[3] == "True"
    again = start(tmp_path, known + 2)
    text, _ = again.communicate(timeout=100)
    assert text.splitlines()[-1] == f"done {known} 2 False"


def test_the_task_that_can_save_most_comes_next() -> None:
    fresh, slow, fast = Progress(1), Progress(4, 8, 1e-3, [2e-3, 1e-3]), Progress(1, 8, 1e-3, [2e-3, 1e-3])
    assert next_task([slow, fresh, fast], [True, True, True]) == 1
    assert next_task([slow, fresh, fast], [True, False, True]) == 0
    stuck = Progress(4, 40, 1e-3, [1e-3] * 6)
    assert next_task([stuck, fast], [True, True]) == 1
    assert next_task([stuck, fast], [False, False]) is None


def test_tvm_by_itself_measures_none_of_our_schedules(task: Task, tmp_path: Path) -> None:
    traces = {str(made.trace) for made in our_schedules(task)}
    with open_records(tmp_path, task.target) as records, Workshop() as workshop:
        search = Search(task, records, CostModel(records.folder), workshop, ours=False)
        assert search.step(2) == 2
        assert records.best(task) is not None
    with open_records(tmp_path, task.target) as records:
        found = [str(record.trace) for record in records.tvm.get_all_tuning_records()]
    assert len(found) == 2
    assert not traces & set(found)
