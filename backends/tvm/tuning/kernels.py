"""One scheduled kernel compiled and timed, on this machine or on a device behind an RPC tracker."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..threads import settle_threads
from .worker import HOPELESS, REPEATS, SHORTEST_S, Job

if TYPE_CHECKING:
    import tvm

ENTRY = "main"
MOST_RUNS = 2000
SESSION_S = 60


def warm_up() -> None:
    """Import what compiling needs, so that children find it there."""
    import tvm
    from tvm.s_tir.transform import RemoveWeightLayoutRewriteBlock

    RemoveWeightLayoutRewriteBlock(skip_tensor_rewrite=True)(tvm.IRModule())


def local_timer(job: Job) -> Callable[[], float]:
    """Compile for this machine; the answer gives seconds a run."""
    import tvm

    settle_threads()
    module, target = _lowered(job)
    library = tvm.compile(module, target=target).jit()
    device = tvm.device(job.device.kind, 0)
    arguments = [tvm.runtime.tensor(array, device) for array in _arrays(module)]
    return lambda: _seconds(library, device, arguments, job.best)


def remote_timer(job: Job) -> Callable[[], float]:
    """Compile for the remote device; the answer asks the tracker for one, uploads, and gives seconds a run."""
    import tvm

    module, target = _lowered(job)
    executable = tvm.compile(module, target=target)
    return lambda: _remote_seconds(job, executable, _arrays(module))


def _lowered(job: Job) -> tuple[tvm.IRModule, tvm.target.Target]:
    """The module as it is built: the block that re-lays a weight out is left out, since that happens once and before."""
    import json

    import tvm
    from tvm.s_tir.transform import RemoveWeightLayoutRewriteBlock

    module = RemoveWeightLayoutRewriteBlock(skip_tensor_rewrite=True)(tvm.ir.load_json(job.module))
    return module, tvm.target.Target(json.loads(job.target))


def _remote_seconds(job: Job, executable: Any, arrays: list[np.ndarray]) -> float:
    import tvm
    from tvm import rpc
    from tvm.support import cc

    host, _, port = job.device.tracker.rpartition(":")
    session = rpc.connect_tracker(host, int(port)).request(job.device.key, session_timeout=SESSION_S)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "kernel.so"
        link = cc.cross_compiler(job.device.compiler) if job.device.compiler else cc.create_shared
        executable.export_library(str(file), fcompile=link)
        session.upload(str(file))
    library = session.load_module("kernel.so")
    device = session.device(job.device.kind, 0)
    arguments = [tvm.runtime.tensor(array, device) for array in arrays]
    return _seconds(library, device, arguments, job.best)


def _seconds(library: Any, device: Any, arguments: list[Any], best: float) -> float:
    """The shortest of several timings, each of as many runs as last `SHORTEST_S`; one run is enough where it is hopeless."""
    once = min(library.time_evaluator(ENTRY, device, number=1, repeat=2)(*arguments).results)
    if best and once > HOPELESS * best:
        return float(once)
    runs = int(min(MOST_RUNS, max(1, SHORTEST_S / max(once, 1e-9))))
    return float(min(library.time_evaluator(ENTRY, device, number=runs, repeat=REPEATS)(*arguments).results))


def _arrays(module: tvm.IRModule) -> list[np.ndarray]:
    """Arguments of a kernel, weights in the layout it reads. Floats are between 0 and 1; integers are 0, which is a valid index into anything."""
    random = np.random.default_rng(0)
    return [_array(tuple(int(size) for size in buffer.shape), str(buffer.dtype), random) for buffer in module[ENTRY].params]


def _array(shape: tuple[int, ...], dtype: str, random: np.random.Generator) -> np.ndarray:
    if dtype.startswith("float"):
        pattern = random.random(1 << 12, dtype=np.float32)
        return np.resize(pattern, shape).astype(dtype)
    return np.zeros(shape, dtype)
