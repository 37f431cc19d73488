"""What a device with TVM's runtime gets: model.so, its weights, how to call it, and run.py."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ...compiler.core.backend import Port
from ...compiler.core.errors import ArtifactError, BackendMissing
from .files import LIBRARY, SIGNATURE, WEIGHTS, Signature, write_signature, write_weights
from .run_template import program

if TYPE_CHECKING:
    import tvm
    from tvm.relax import VMExecutable

RUN = "run.py"
RUNTIME = "libtvm_runtime.so"
FFI = "libtvm_ffi.so"
MEBIBYTE = 2**20


def write_package(
    executable: VMExecutable, weights: Sequence[tvm.runtime.Tensor], inputs: Sequence[Port], outputs: Sequence[Port], folder: Path
) -> tuple[tuple[Path, ...], tuple[str, ...]]:
    """Write everything into ``folder``; returns the files, and a sentence about what must be on the device besides.

    ``weights`` are what `weights.lift_weights` took out. Raises ArtifactError when the disk refuses, BackendMissing when there is no C compiler to link with.
    """
    files = [folder / LIBRARY, folder / SIGNATURE, folder / RUN]
    try:
        export(executable, folder / LIBRARY)
        written = write_weights(weights, folder / WEIGHTS) if weights else ()
        write_signature(Signature(tuple(inputs), tuple(outputs), written), folder / SIGNATURE)
        (folder / RUN).write_text(program(), encoding="utf-8")
    except OSError as error:
        raise ArtifactError(f"the model cannot be written to '{folder}': {error.strerror}") from error
    return (*files, *([folder / WEIGHTS] if written else [])), (runtime_needed(),)


def export(executable: VMExecutable, path: Path) -> None:
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
    return f"needs on the device: numpy, the package apache-tvm-ffi, and {RUNTIME} beside run.py (from the wheel of apache-tvm); here {sizes}"
