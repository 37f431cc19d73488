"""A lowered module as one shared library that needs no runtime: its kernels, its weights, and the little C that calls one after the other."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from ....compiler.core.backend import Port
from ....compiler.core.errors import TargetError
from .layout import Layout, lay_out, lower
from .tables import WEIGHTS_ASSEMBLY, tables, write_weights
from .toolchain import Compiler, Machine

if TYPE_CHECKING:
    import tvm

LIBRARY = "model.so"
PROGRAM = "run"
HEADER = "graphwright.h"
PROGRAM_SOURCE = "run.c"
RUNTIME_SOURCES = ("runtime.c", "tables.h", HEADER)
EXPORTED = "graphwright_*"
GLIBC = re.compile(rb"GLIBC_([0-9]+\.[0-9]+)")
MEBIBYTE = 2**20
LARGEST_WEIGHTS = 1 << 30
"""Bytes. Code reaches only so far; a model with more is none for such a device."""
FOREIGN = (b"TVMFFIEnvModLookupFromImports", b"TVMFFIFunctionCall", b"TVMFFIHandleInitOnce", b"TVMBackendParallelBarrier")
"""What an object file refers to when its kernels need more of TVM's runtime than there is here: functions by name, mostly."""
CALL_BY_NAME = re.compile(r'call_(?:c?packed|cpacked_lowered)\("([^"]+)"')


def build_library(module: tvm.IRModule, machine: Machine, inputs: Sequence[Port], outputs: Sequence[Port], folder: Path) -> Layout:
    """Make ``model.so`` in ``folder`` of a Relax module whose ``main`` calls PrimFuncs; what it is made of lies there, too.

    Raises TargetError for what needs a runtime or a size that is open, BackendMissing when there is no compiler for the machine.
    """
    import tvm

    compiler = Compiler(machine, folder)
    target = tvm.target.Target(machine.target())
    with target:
        lowered = lower(module)
    layout = lay_out(lowered)
    if layout.weight_bytes > LARGEST_WEIGHTS:
        raise TargetError(f"the model has {layout.weight_bytes:,} bytes of weights; at most {LARGEST_WEIGHTS:,} fit into a library")
    (folder / "tables.c").write_text(tables(layout, inputs, outputs), encoding="utf-8")
    _compile_kernels(lowered, layout, target, folder / "kernels.o")
    write_weights(layout, folder / "weights.bin")
    (folder / "weights.s").write_text(WEIGHTS_ASSEMBLY.format(file="weights.bin"), encoding="utf-8")
    for name in (*RUNTIME_SOURCES, PROGRAM_SOURCE):
        copy_source(name, folder)
    compiler.library(["runtime.c", "tables.c", "weights.s", "kernels.o"], LIBRARY, EXPORTED)
    compiler.program(PROGRAM_SOURCE, LIBRARY, PROGRAM)
    return layout


def copy_source(name: str, folder: Path) -> Path:
    """Put one of the C files that come with graphwright into a folder."""
    source = files(__package__) / "data" / name
    (folder / name).write_bytes(source.read_bytes())
    return folder / name


def move_product(draft: Path, folder: Path) -> tuple[Path, ...]:
    """Take what a device gets out of the folder of `build_library`."""
    names = (LIBRARY, PROGRAM, PROGRAM_SOURCE, HEADER)
    for name in names:
        shutil.copy2(draft / name, folder / name)
    return tuple(folder / name for name in names)


def needed(folder: Path) -> str:
    """What must be on the device besides a package, for the report."""
    library = (folder / LIBRARY).read_bytes()
    newest = max((tuple(map(int, found.split(b"."))) for found in GLIBC.findall(library)), default=(2, 17))
    size = len(library) / MEBIBYTE
    version = ".".join(map(str, newest))
    return f"needs on the device: Linux with glibc {version} or newer, nothing of TVM; {LIBRARY} ({size:.1f} MiB) holds the weights, {PROGRAM} runs it"


def _compile_kernels(module: tvm.IRModule, layout: Layout, target: tvm.target.Target, path: Path) -> None:
    """The kernels that are called, as an object file."""
    import tvm

    used = {call.kernel for call in layout.calls}
    kernels = {variable: function for variable, function in module.functions.items() if variable.name_hint in used}
    if not kernels:
        path.write_bytes(b"")
        return
    built = tvm.tirx.build(tvm.IRModule(kernels, attrs=module.attrs), target=target)
    built.write_to_file(str(path))
    content = path.read_bytes()
    if any(name in content for name in FOREIGN):
        texts = (function.script() for function in kernels.values())
        names = sorted({name for text in texts for name in CALL_BY_NAME.findall(text)})
        raise TargetError(f"a kernel calls {', '.join(names) or 'a function'} of TVM's runtime, which a device without one has not")
