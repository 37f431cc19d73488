"""What a device with TVM's runtime gets: model.so, its weights, how to call it, and run.py."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path
from typing import TYPE_CHECKING

from ...compiler.core.errors import ArtifactError, BackendMissing
from .files import LIBRARY, SIGNATURE, WEIGHTS, Signature, write_signature, write_weights
from .run_template import program

if TYPE_CHECKING:
    from tvm.relax.vm_build import VMExecutable
    from tvm.runtime import Module

    from .session import TvmRunner

RUN = "run.py"
RUNTIME = "libtvm_runtime.so"
FFI = "libtvm_ffi.so"
MEBIBYTE = 2**20


def write_package(runner: TvmRunner, folder: Path) -> tuple[tuple[Path, ...], tuple[str, ...]]:
    """Write a built model into ``folder``; returns the files, and a sentence about what must be on the device besides.

    Raises ArtifactError when the disk refuses, BackendMissing when there is no C++ compiler to link with.
    """
    files = [folder / LIBRARY, folder / SIGNATURE, folder / RUN]
    try:
        export(runner.executable, folder / LIBRARY)
        written = write_weights(runner.weights, folder / WEIGHTS) if runner.weights else ()
        write_signature(Signature(runner.inputs, runner.outputs, written), folder / SIGNATURE)
        (folder / RUN).write_text(program(), encoding="utf-8")
    except OSError as error:
        raise ArtifactError(f"the model cannot be written to '{folder}': {error.strerror}") from error
    return (*files, *([folder / WEIGHTS] if written else [])), (runtime_needed(),)


def export(executable: VMExecutable | Module, path: Path) -> None:
    """Link a VM executable into a library. Raises BackendMissing when there is no C compiler, ArtifactError when it fails."""
    from tvm.support import cc

    if cc.get_cc() is None:
        raise BackendMissing(f"linking {path.name} needs a C++ compiler (g++ or clang++), and there is none; CXX names one")
    try:
        executable.export_library(str(path))
    except RuntimeError as error:
        raise ArtifactError(f"'{path}' could not be linked: {str(error).strip().splitlines()[-1]}") from error


def runtime_files() -> dict[str, int]:
    """The libraries that run.py needs on a device -> their bytes, as installed here."""
    import tvm_ffi.libinfo
    from tvm import libinfo

    found = [Path(tvm_ffi.libinfo.find_libtvm_ffi()), Path(libinfo.find_libtvm_runtime())]
    return {path.name: path.stat().st_size for path in found if path.is_file()}


def runtime_needed() -> str:
    """What must be on the device, with sizes, and where it comes from."""
    sizes = ", ".join(f"{name} {size / MEBIBYTE:.1f} MiB" for name, size in runtime_files().items())
    ffi, runtime = (importlib.metadata.version(name) for name in ("apache-tvm-ffi", "apache-tvm"))
    return f"needs on the device: numpy, apache-tvm-ffi {ffi}, and {RUNTIME} of apache-tvm {runtime} beside run.py ({sizes})"
