"""A built model that runs in TVM's virtual machine."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

from ...compiler.core.backend import Array, Port
from ...compiler.core.elements import ELEMENTS, NAMES, parse_type
from ...compiler.core.errors import InputError
from ...compiler.core.intake import Intake
from ...compiler.core.shapes import is_ours, outward_shape
from ...compiler.core.timing import Stopwatch, stopwatch
from .importing import sentence
from .threads import settle_threads

if TYPE_CHECKING:
    from tvm.relax.vm_build import VMExecutable

ALIGNMENT = 64
"""Bytes: generated code loads whole vectors from the start of a tensor."""


class TvmRunner:
    """Runs ``main`` of an executable, which takes the inputs in order, then ``weights``, and gives a tuple of the outputs.

    ``kept`` are the places of outputs that are inputs or constants as they are: those are copied, so that a caller may change what he got.
    """

    def __init__(
        self, executable: VMExecutable, inputs: Sequence[Port], outputs: Sequence[Port], kept: Sequence[int] = (), weights: Sequence[Any] = ()
    ) -> None:
        from tvm import relax

        self._settled = threading.local()
        self._settle()
        self.executable = executable
        self.weights = list(weights)
        self.kept = tuple(kept)
        self.inputs, self.outputs = tuple(inputs), tuple(outputs)
        self._machine: Any = relax.VirtualMachine(executable, self._device())
        self._main: Callable[..., Any] | None = self._machine["main"]
        self._intake = Intake(self.inputs)
        self._foreign = {port.name for port in self.outputs if parse_type(port.dtype).is_foreign}

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """All outputs by name. Raises InputError when the feeds do not fit or the model fails on them."""
        self._alive()
        if not hasattr(self._settled, "done"):
            self._settle()
        given = self._given(feeds)
        try:
            made = self._alive()(*given)
        except Exception as error:  # TVM raises what it likes
            self._alive()
            self._intake.checked(feeds)  # It has the clearer words for a shape that does not fit.
            raise _cannot_run(error) from error
        return {port.name: self._array(place, port, made[place]) for place, port in enumerate(self.outputs)}

    def stopwatch(self, feeds: Mapping[str, Array]) -> Stopwatch:
        """Times runs on these feeds, which are checked once. Raises InputError when they do not fit."""
        self.run(feeds)
        given, main = self._given(feeds), self._alive()
        return stopwatch(lambda: main(*given), time.perf_counter)

    def close(self) -> None:
        """Free the machine's memory; it cannot run after that."""
        self._main = self._machine = None

    def __enter__(self) -> TvmRunner:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _settle(self) -> None:
        """Make this thread's pool of threads ready; each thread that calls has one."""
        settle_threads()
        self._settled.done = True

    def _device(self) -> Any:
        """Where the machine runs."""
        import tvm

        return tvm.cpu()

    def _given(self, feeds: Mapping[str, Array]) -> list[Any]:
        if not (type(feeds) is dict and self._intake.takes_as_they_are(feeds)):
            feeds = self._intake.checked(feeds)
        return [*(to_tensor(feeds[port.name]) for port in self.inputs), *self.weights]

    def _alive(self) -> Callable[..., Any]:
        if self._main is None:
            raise RuntimeError("this runner was closed")
        return self._main

    def _array(self, place: int, port: Port, tensor: Any) -> np.ndarray:
        if port.name in self._foreign:
            return tensor.numpy().view(ELEMENTS[parse_type(port.dtype).element][1])
        array = np.from_dlpack(tensor)
        return array.copy() if place in self.kept else array


def to_tensor(array: Any) -> Any:
    """An array as a tensor of TVM; it shares the array's memory where that is aligned."""
    import tvm_ffi

    if not array.size or array.dtype.type.__module__ == "ml_dtypes":
        import tvm

        return tvm.runtime.tensor(array)
    if array.ctypes.data % ALIGNMENT or not array.flags.c_contiguous or not array.flags.writeable:
        array = aligned(array)
    return tvm_ffi.from_dlpack(array)


def aligned(array: np.ndarray) -> np.ndarray:
    """A copy of an array whose memory starts where vectors may be loaded from."""
    room = np.empty(array.nbytes + ALIGNMENT, np.uint8)
    start = -room.ctypes.data % ALIGNMENT
    copy = room[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def ports_of(values: Sequence[ir.Value], *, outward: bool) -> tuple[Port, ...]:
    """What a model takes or gives; ``outward`` values are outputs, whose shapes may have been worked out."""
    return tuple(Port(value.name or "", _type(value), _dims(outward_shape(value) if outward else value.shape)) for value in values)


def _type(value: ir.Value) -> str:
    return f"tensor({NAMES[value.dtype.value]})" if value.dtype is not None else ""


def _dims(shape: ir.Shape | None) -> tuple[int | str | None, ...] | None:
    if shape is None:
        return None
    return tuple(dim if isinstance(dim, int) else None if is_ours(dim) else dim.value for dim in shape)


def _cannot_run(error: Exception) -> InputError:
    return InputError(f"the model cannot run on these inputs: {sentence(error)}")
