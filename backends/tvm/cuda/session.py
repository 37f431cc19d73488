"""A built model that runs on a GPU."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ....compiler.core.backend import Array, Port
from ....compiler.core.elements import ELEMENTS, parse_type
from ....compiler.core.timing import Stopwatch
from ..session import TvmRunner

if TYPE_CHECKING:
    from tvm.relax.vm_build import VMExecutable


class GpuRunner(TvmRunner):
    """As `TvmRunner`, on the GPU ``device_id``: feeds are copied to it and outputs back, each time."""

    def __init__(self, executable: VMExecutable, inputs: Sequence[Port], outputs: Sequence[Port], device_id: int = 0) -> None:
        self.device_id = device_id
        super().__init__(executable, inputs, outputs)

    def stopwatch(self, feeds: Mapping[str, Array]) -> Stopwatch:
        """Times runs on these feeds, which are copied to the device before; the device is waited for before the clock is read.

        Raises InputError when they do not fit.
        """
        self.run(feeds)
        given, main, device = self._given(feeds), self._alive(), self._device()

        def timed(calls: int) -> float:
            device.sync()
            start = time.perf_counter()
            for _ in range(calls):
                main(*given)
            device.sync()
            return time.perf_counter() - start

        return timed

    def _device(self) -> Any:
        import tvm

        return tvm.cuda(self.device_id)

    def _given(self, feeds: Mapping[str, Array]) -> list[Any]:
        import tvm

        ready, device = self._intake.checked(feeds), self._device()
        return [tvm.runtime.tensor(ready[port.name], device=device) for port in self.inputs]

    def _array(self, place: int, port: Port, tensor: Any) -> np.ndarray:
        array = tensor.numpy()
        return array.view(ELEMENTS[parse_type(port.dtype).element][1]) if port.name in self._foreign else array
