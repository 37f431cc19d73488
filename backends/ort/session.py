"""A model in one session of ONNX Runtime."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import onnxruntime as ort

from ...compiler.core.backend import Array, Port
from ...compiler.core.errors import BackendMissing
from ...compiler.core.timing import Stopwatch, stopwatch
from .failures import cannot_load, cannot_run
from .options import DEFAULT, Options
from .ports import parse_type, ports_in, ports_of
from .skeleton import Skeleton
from .values import Intake, from_ort_value, to_ort_value

T = TypeVar("T")


class OrtRunner:
    """Runs a model in one session. Make one with `open_skeleton` or `open_file`."""

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
        self.inputs = tuple(inputs)
        self.outputs = tuple(outputs)
        self.overridable = tuple(overridable)
        self.options = options
        self._session: ort.InferenceSession | None = session
        self._weights = weights
        self._names = [port.name for port in self.outputs]
        self._intake = Intake(self.inputs, self.overridable)
        self._ports = {port.name: port for port in (*self.inputs, *self.overridable)}
        self._foreign = {name for name, port in self._ports.items() if parse_type(port.dtype).is_foreign}
        self._foreign_outputs = any(parse_type(port.dtype).is_foreign for port in ports_in(session.get_outputs()))
        self._plain = not self._foreign and not self._foreign_outputs
        """Whether arrays can go in and out as they are."""

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """All outputs by name. Raises InputError when the feeds do not fit or the model fails on them."""
        if self._plain and type(feeds) is dict and self._session is not None and self._intake.takes_as_they_are(feeds):
            try:
                return dict(zip(self._names, self._session.run(self._names, feeds), strict=True))
            except Exception as error:
                self._intake.checked(feeds)  # It has the clearer words for a shape that does not fit.
                raise cannot_run(error) from error
        ready = self._intake.checked(feeds)
        if self._is_foreign(ready):
            given = {name: to_ort_value(self._ports[name], value) for name, value in ready.items()}
            values = self._guarded(lambda session: session.run_with_ort_values(self._names, given))
            return dict(zip(self._names, map(from_ort_value, values), strict=True))
        results = self._guarded(lambda session: session.run(self._names, ready))
        return dict(zip(self._names, results, strict=True))

    def stopwatch(self, feeds: Mapping[str, Array]) -> Stopwatch:
        """Times runs on these feeds, which are checked once. Raises InputError when they do not fit."""
        self.run(feeds)
        ready = self._intake.checked(feeds)
        session, names = self._alive(), self._names
        if self._is_foreign(ready):
            given = {name: to_ort_value(self._ports[name], value) for name, value in ready.items()}
            return stopwatch(lambda: session.run_with_ort_values(names, given), time.perf_counter)
        return stopwatch(lambda: session.run(names, ready), time.perf_counter)

    def close(self) -> None:
        """Free the session's memory and threads; it cannot run after that."""
        self._session = None
        self._weights = ()

    def __enter__(self) -> OrtRunner:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _is_foreign(self, feeds: Mapping[str, Array]) -> bool:
        return self._foreign_outputs or not self._foreign.isdisjoint(feeds)

    def _alive(self) -> ort.InferenceSession:
        if self._session is None:
            raise RuntimeError("this runner was closed")
        return self._session

    def _guarded(self, call: Callable[[ort.InferenceSession], Sequence[T]]) -> Sequence[T]:
        session = self._alive()
        try:
            return call(session)
        except Exception as error:  # ONNX Runtime's exceptions have no base class of their own
            raise cannot_run(error) from error


def open_skeleton(skeleton: Skeleton, options: Options = DEFAULT, *, weights: Collection[str] | None = None) -> OrtRunner:
    """A runner for a model in memory; ``weights`` names those it needs when it is only a part. Raises ModelError or TargetError when it cannot be loaded."""
    given = options.session_options()
    arrays = skeleton.configure(given, weights)
    session = _session(skeleton.to_bytes(), given, options)
    graph = skeleton.proto.graph
    initial = {tensor.name for tensor in graph.initializer}
    declared = ports_of(graph.input)
    inputs = [port for port in declared if port.name not in initial]
    outputs, overridable = _outputs(session, ports_of(graph.output)), [port for port in declared if port.name in initial]
    return runner_kind(options)(session, inputs, outputs, overridable, arrays, options=options)


def open_file(path: Path, options: Options = DEFAULT) -> OrtRunner:
    """A runner for a model file (.onnx or .ort). Raises ModelError or TargetError when it cannot be loaded."""
    session = _session(str(path), options.session_options(), options)
    inputs, outputs = ports_in(session.get_inputs()), ports_in(session.get_outputs())
    return runner_kind(options)(session, inputs, outputs, ports_in(session.get_overridable_initializers()), options=options)


def runner_kind(options: Options) -> type[OrtRunner]:
    """What runs sessions with these options: on a GPU, inputs and outputs are bound to its memory."""
    if options.device == "cpu":
        return OrtRunner
    from .cuda.bound import BoundRunner

    return BoundRunner


def _outputs(session: ort.InferenceSession, declared: Sequence[Port]) -> list[Port]:
    """As declared; what a file leaves open is as the session found it."""
    found = ports_in(session.get_outputs())
    return [Port(one.name, one.dtype or other.dtype, other.shape if one.shape is None else one.shape) for one, other in zip(declared, found, strict=True)]


def _session(source: str | bytes, given: ort.SessionOptions, options: Options) -> ort.InferenceSession:
    missing = options.missing()
    if missing:
        raise BackendMissing(missing)
    providers = options.providers()
    try:
        session = ort.InferenceSession(source, given, providers=providers, enable_fallback=0)
    except Exception as error:  # ONNX Runtime's exceptions have no base class of their own
        raise cannot_load(error, options.device.upper()) from error
    wanted = providers[0] if isinstance(providers[0], str) else providers[0][0]
    if wanted not in session.get_providers():  # It would run on the CPU and say nothing.
        raise BackendMissing(f"ONNX Runtime made a session without {wanted}: it cannot use this GPU any more. The target ort-cpu needs none.")
    return session
