"""Runs a model's library: in this process, or as a program under an emulator."""

from __future__ import annotations

import ctypes
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ....compiler.core.backend import Array, Port
from ....compiler.core.errors import ArtifactError, InputError
from ....compiler.core.intake import Intake
from .library import PROGRAM

SECONDS = 1800
"""How long one run may take under an emulator."""


class _PortStruct(ctypes.Structure):
    """``graphwright_port``."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("dtype", ctypes.c_char_p),
        ("rank", ctypes.c_int64),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("bytes", ctypes.c_size_t),
        ("data", ctypes.c_void_p),
    )


class LibraryRunner:
    """Runs a ``model.so`` for this machine. ``inputs`` and ``outputs`` are in the library's order."""

    def __init__(self, library: Path, inputs: Sequence[Port], outputs: Sequence[Port], threads: int = 1) -> None:
        """Raises ArtifactError when the library cannot be loaded here."""
        self.inputs, self.outputs = tuple(inputs), tuple(outputs)
        self._intake = Intake(self.inputs, ())
        try:
            self._library = ctypes.CDLL(str(library.resolve()))
        except OSError as error:
            raise ArtifactError(f"'{library}' cannot be loaded on this machine: {error}") from None
        self._library.graphwright_open.restype = ctypes.c_void_p
        self._library.graphwright_error.restype = ctypes.c_char_p
        self._library.graphwright_memory.restype = ctypes.c_size_t
        self._model: ctypes.c_void_p | None = ctypes.c_void_p(self._library.graphwright_open(threads))
        if not self._model:
            raise ArtifactError(f"there is not enough memory for '{library}': it takes {self._library.graphwright_memory():,} bytes")
        self._given = self._arrays("graphwright_inputs")
        self._made = self._arrays("graphwright_outputs")

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """All outputs by name. Raises InputError when the feeds do not fit."""
        if self._model is None:
            raise RuntimeError("this runner was closed")
        ready = self._intake.checked(feeds)
        for port, array in zip(self.inputs, self._given, strict=True):
            array[...] = ready[port.name]
        if self._library.graphwright_run(self._model):
            raise InputError(f"the model cannot run on these inputs: {self._library.graphwright_error().decode()}")
        return {port.name: array.copy() for port, array in zip(self.outputs, self._made, strict=True)}

    def close(self) -> None:
        """Free the model's memory and threads."""
        if self._model is not None:
            self._given, self._made = [], []
            self._library.graphwright_close(self._model)
            self._model = None

    def _arrays(self, function: str) -> list[np.ndarray]:
        """The memory of the inputs or outputs as arrays."""
        get = getattr(self._library, function)
        get.restype = ctypes.POINTER(_PortStruct)
        ports, arrays, number = get(self._model), [], 0
        while ports[number].name is not None:
            port = ports[number]
            memory = (ctypes.c_char * port.bytes).from_address(port.data)
            arrays.append(np.frombuffer(memory, np.dtype(port.dtype.decode())).reshape([port.shape[axis] for axis in range(port.rank)]))
            number += 1
        return arrays


class ProgramRunner:
    """Runs the program of a package for another machine, with the command ``emulator`` before it. Each run is a process of its own.

    ``keeper`` is what the folder lives as long as.
    """

    def __init__(self, folder: Path, inputs: Sequence[Port], outputs: Sequence[Port], emulator: Sequence[str], keeper: object = None) -> None:
        self._keeper = keeper
        self.inputs, self.outputs = tuple(inputs), tuple(outputs)
        self._command = [*emulator, str((folder / PROGRAM).resolve())]
        self._intake = Intake(self.inputs, ())

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """All outputs by name. Raises InputError when the feeds do not fit or the program fails."""
        ready = self._intake.checked(feeds)
        with tempfile.TemporaryDirectory(prefix="graphwright-run-") as scratch:
            names = []
            for number, port in enumerate(self.inputs):
                names.append(str(Path(scratch) / f"input_{number}.npy"))
                np.save(names[-1], np.asarray(ready[port.name]))
            done = subprocess.run([*self._command, "-o", scratch, *names], capture_output=True, text=True, check=False, timeout=SECONDS)
            if done.returncode:
                raise InputError(f"the model cannot run on these inputs: {(done.stderr.strip() or f'exit status {done.returncode}').splitlines()[-1]}")
            return {port.name: np.load(Path(scratch) / f"{number}.npy") for number, port in enumerate(self.outputs)}

    def close(self) -> None:
        """There is nothing to free."""
