"""A session whose inputs and outputs stay in the memory of the device, with its kernels captured as a CUDA graph where that is asked for."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import ml_dtypes
import numpy as np
import onnxruntime as ort

from ....compiler.core.backend import Array, Port
from ....compiler.core.elements import parse_type
from ....compiler.core.errors import TargetError
from ....compiler.core.timing import Stopwatch
from ..failures import cannot_run, clean
from ..options import DEFAULT, ERRORS_ONLY_FATAL, Options
from ..ports import ports_in
from ..session import OrtRunner
from ..values import from_ort_value, to_ort_value
from .options import CudaOptions

MOST_SHAPES = 8
"""Sets of input shapes whose buffers are kept, and graphs that are captured: both hold device memory."""
UNCAPTURED = -1
"""The id of ONNX Runtime for a run that is neither captured nor replayed."""
Signature = tuple[tuple[str, str, tuple[int, ...]], ...]


@dataclass
class Bound:
    """Buffers for one set of input shapes; ``graph`` is the id of the graph that was captured with them."""

    binding: ort.IOBinding
    inputs: dict[str, ort.OrtValue]
    graph: int = UNCAPTURED


class BoundRunner(OrtRunner):
    """Runs a model on a device. For each set of input shapes the buffers are made once and used again; feeds are copied into them.

    With ``options.graph`` a set of shapes is run once as usual, then captured, and what the graph gives must be what the kernels gave; from then on it is
    replayed. ``uncaptured`` is why not, "" where it is or was not asked for. Values that numpy has no dtype for, and empty ones, go through the host.
    """

    def __init__(
        self,
        session: ort.InferenceSession,
        inputs: Sequence[Port],
        outputs: Sequence[Port],
        overridable: Sequence[Port] = (),
        weights: Sequence[np.ndarray] = (),
        *,
        options: Options = DEFAULT,
    ) -> None:
        super().__init__(session, inputs, outputs, overridable, weights, options=options)
        self._place = options.place
        self._captures = isinstance(options, CudaOptions) and options.graph
        self._kept: OrderedDict[Signature, Bound] = OrderedDict()
        self._graphs = 0
        self.uncaptured = ""
        kinds = [parse_type(port.dtype) for port in (*self.inputs, *self.overridable, *ports_in(session.get_outputs()))]
        self._bindable = self._plain and all(kind.kind == "tensor" and kind.element != "string" for kind in kinds)
        if self._captures and not self._bindable:
            self.uncaptured = "its inputs and outputs are not all arrays of numbers that numpy knows"

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """All outputs by name. Raises InputError when the feeds do not fit or the model fails on them."""
        ready = self._intake.checked(feeds)
        arrays = self._arrays(ready)
        if arrays is None:
            return self._through_host(ready)
        bound = self._fed(arrays)
        self._go(bound)
        return dict(zip(self._names, _copied(bound), strict=True))

    def capture(self, feeds: Mapping[str, Array]) -> None:
        """Capture the graph for the shapes of these feeds. Raises TargetError with the reason when there will be none."""
        self.run(feeds)
        if self.uncaptured:
            raise TargetError(f"no CUDA graph is captured: {self.uncaptured}")

    def stopwatch(self, feeds: Mapping[str, Array]) -> Stopwatch:
        """Times runs on these feeds, which are copied to the device before; the device is waited for before the clock is read.

        Raises InputError when they do not fit.
        """
        arrays = self._arrays(self._intake.checked(feeds))
        if arrays is None:
            return super().stopwatch(feeds)
        bound, session = self._fed(arrays), self._alive()
        self._go(bound)
        options = self._run_options(bound.graph)

        def timed(calls: int) -> float:
            bound.binding.synchronize_inputs()
            start = time.perf_counter()
            for _ in range(calls):
                session.run_with_iobinding(bound.binding, options)
            bound.binding.synchronize_outputs()
            return time.perf_counter() - start

        return timed

    def close(self) -> None:
        """Free the session's memory and threads, those on the device too; it cannot run after that."""
        self._kept.clear()
        super().close()

    def _arrays(self, feeds: Mapping[str, Array]) -> dict[str, np.ndarray] | None:
        """The feeds, when they can lie in buffers."""
        arrays = {name: value for name, value in feeds.items() if isinstance(value, np.ndarray) and value.size}
        return arrays if self._bindable and len(arrays) == len(feeds) else None

    def _through_host(self, feeds: dict[str, Array]) -> dict[str, Array]:
        options = self._run_options(UNCAPTURED)
        if not self._is_foreign(feeds):
            return dict(zip(self._names, self._guarded(lambda session: session.run(self._names, feeds, options)), strict=True))
        given = {name: to_ort_value(self._ports[name], value) for name, value in feeds.items()}
        values = self._guarded(lambda session: session.run_with_ort_values(self._names, given, options))
        return dict(zip(self._names, map(from_ort_value, values), strict=True))

    def _fed(self, arrays: Mapping[str, np.ndarray]) -> Bound:
        """The buffers for these shapes with the arrays in them."""
        signature = tuple((name, array.dtype.str, array.shape) for name, array in sorted(arrays.items()))
        bound = self._kept.get(signature)
        if bound is not None:
            self._kept.move_to_end(signature)
            for name, array in arrays.items():
                bound.inputs[name].update_inplace(array)
            return bound
        bound = self._made(arrays)
        while len(self._kept) >= MOST_SHAPES:
            self._kept.popitem(last=False)
        if self._captures and not self.uncaptured and self._graphs < MOST_SHAPES:
            self._capture(bound)
        self._kept[signature] = bound
        return bound

    def _made(self, arrays: Mapping[str, np.ndarray]) -> Bound:
        binding = self._alive().io_binding()
        inputs = {}
        for name, array in arrays.items():
            value = ort.OrtValue.ortvalue_from_shape_and_type(list(array.shape), array.dtype, *self._place)
            value.update_inplace(array)
            binding.bind_ortvalue_input(name, value)
            inputs[name] = value
        bound = Bound(binding, inputs)
        self._free_outputs(bound)
        return bound

    def _free_outputs(self, bound: Bound) -> None:
        """Let ONNX Runtime make the outputs, on the device, as large as they come out."""
        bound.binding.clear_binding_outputs()
        for name in self._names:
            bound.binding.bind_output(name, *self._place)

    def _go(self, bound: Bound) -> None:
        session, options = self._alive(), self._run_options(bound.graph)
        try:
            session.run_with_iobinding(bound.binding, options)
            bound.binding.synchronize_outputs()
        except Exception as error:  # ONNX Runtime's exceptions have no base class of their own
            raise cannot_run(error) from error

    def _capture(self, bound: Bound) -> None:
        """Run as usual, fix the outputs where they came out, and run again as a graph; where that goes wrong, go on as usual and remember why."""
        self._go(bound)
        expected = _copied(bound)
        fixed = bound.binding.get_outputs()
        bound.binding.clear_binding_outputs()
        for name, value in zip(self._names, fixed, strict=True):
            bound.binding.bind_ortvalue_output(name, value)
        bound.graph, session = self._graphs + 1, self._alive()  # 0 is what ONNX Runtime takes for no id.
        try:
            for _ in range(2):  # The first run captures, the second replays.
                session.run_with_iobinding(bound.binding, self._run_options(bound.graph))
            bound.binding.synchronize_outputs()
            problem = "" if all(map(_alike, expected, _copied(bound))) else "replayed, it gives other numbers"
        except Exception as error:
            problem = clean(str(error))
        if problem:
            self.uncaptured, bound.graph = problem, UNCAPTURED
            self._free_outputs(bound)
        else:
            self._graphs += 1

    def _run_options(self, graph: int) -> ort.RunOptions:
        options = ort.RunOptions()
        options.log_severity_level = ERRORS_ONLY_FATAL
        if self._captures:
            options.add_run_config_entry("gpu_graph_id", str(graph))
        return options


def _copied(bound: Bound) -> list[np.ndarray]:
    """The outputs in arrays that the next run does not write to."""
    found = bound.binding.copy_outputs_to_cpu()
    return [value if value.flags.owndata else value.copy() for value in found]


def _alike(before: np.ndarray, after: np.ndarray) -> bool:
    """Whether a graph computed what its kernels did; these need not add up in the same order twice."""
    if before.shape != after.shape or before.dtype != after.dtype:
        return False
    if before.dtype.kind != "f":
        return bool((before == after).all())
    old, new = before.astype(np.float64), after.astype(np.float64)
    finite = np.isfinite(old)
    if not (finite == np.isfinite(new)).all():
        return False
    allowed = np.sqrt(float(ml_dtypes.finfo(before.dtype).eps)) * np.abs(old[finite]).max(initial=0.0)
    return bool((np.abs(old - new)[finite] <= allowed).all())
