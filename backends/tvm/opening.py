"""A package of generated code, opened on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ...compiler.core.errors import ArtifactError
from .files import LIBRARY, open_weights, read_signature
from .importing import sentence
from .session import TvmRunner


def open_package(folder: Path, kept: Sequence[int] = ()) -> TvmRunner:
    """A runner for the generated code in a folder; ``kept`` are the outputs to copy (`TvmRunner`).

    Raises ArtifactError when it is not there, or not for this machine.
    """
    import tvm
    import tvm_ffi

    signature = read_signature(folder)
    library = folder / LIBRARY
    if not library.is_file():
        raise ArtifactError(f"there is no {LIBRARY} in '{folder}'")
    weights = [tvm_ffi.from_dlpack(array) for array in open_weights(folder, signature)]
    try:
        module = tvm.runtime.load_module(str(library))
    except Exception as error:  # TVM raises what it likes
        raise ArtifactError(f"'{library}' cannot be loaded here: {sentence(error)}. Compile again on this machine.") from error
    return TvmRunner(module, signature.inputs, signature.outputs, kept, weights)
