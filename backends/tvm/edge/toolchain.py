"""The compilers that make a library for a device, and what runs it here."""

from __future__ import annotations

import dataclasses
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ....compiler.core.errors import BackendMissing, TargetError

COMPILE_SECONDS = 1800
FLAGS = ("-std=c11", "-O2", "-fPIC", "-pthread", "-Wall", "-Wextra")
LINK_FLAGS = ("-shared", "-s", "-Wl,-z,defs", "-Wl,--gc-sections", "-Wl,-soname,model.so")
LONGEST = 300
DEFAULT_CPU = "cortex-a72"
DEFAULT_FEATURES = ("+neon",)


@dataclass(frozen=True)
class Machine:
    """A kind of computer: LLVM's words for it, its C compiler, the emulator that this one would need, and the package that brings the compiler (Debian's).
    Loops are cut for ``cores`` threads; fewer may run them.
    """

    architecture: str
    triple: str
    cpu: str
    features: tuple[str, ...]
    compiler: str
    emulator: str = ""
    root: str = ""
    package: str = ""
    cores: int = 4

    @property
    def is_here(self) -> bool:
        """Whether this computer is one."""
        return platform.machine() == self.architecture and platform.system() == "Linux"

    def target(self) -> dict[str, object]:
        """The target as TVM takes it."""
        chosen = {"mcpu": self.cpu, "mattr": list(self.features)} if self.cpu else {}
        return {"kind": "llvm", "mtriple": self.triple, "num-cores": self.cores, **chosen}

    def find_compiler(self) -> str:
        """The compiler's path. Raises BackendMissing when it is not installed."""
        found = shutil.which(self.compiler)
        if found is None:
            where = f" (on Debian: apt install {self.package})" if self.package else ""
            raise BackendMissing(f"compiling for {self.architecture} needs the C compiler {self.compiler}, which is not installed{where}")
        return found

    def find_emulator(self) -> list[str] | None:
        """What a program for this machine is run with here: nothing on such a machine, else qemu; None when it cannot be run."""
        if self.is_here:
            return []
        found = shutil.which(self.emulator) or shutil.which(f"{self.emulator}-static")
        return [found, "-L", self.root] if found is not None and Path(self.root).is_dir() else None


AARCH64 = Machine(
    "aarch64", "aarch64-linux-gnu", DEFAULT_CPU, DEFAULT_FEATURES, "aarch64-linux-gnu-gcc", "qemu-aarch64", "/usr/aarch64-linux-gnu", "gcc-aarch64-linux-gnu"
)


def this_machine() -> Machine:
    """The computer this runs on, as any of its kind."""
    return Machine(platform.machine(), f"{platform.machine()}-linux-gnu", "", (), "cc", package="gcc")


@dataclass(frozen=True)
class Compiler:
    """Runs a machine's C compiler in a folder."""

    machine: Machine
    folder: Path
    path: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", self.machine.find_compiler())

    def library(self, sources: Sequence[str], name: str, exported: str) -> None:
        """Link C, assembly and object files of the folder into a shared library that shows only symbols like ``exported`` (a pattern)."""
        script = self.folder / "exported.map"
        script.write_text(f"{{ global: {exported}; local: *; }};\n", encoding="utf-8")
        self._run([*FLAGS, *LINK_FLAGS, f"-Wl,--version-script={script.name}", "-o", name, *sources, "-lm"])

    def program(self, source: str, library: str, name: str) -> None:
        """A program that finds its library beside itself."""
        self._run([*FLAGS, "-s", "-o", name, source, f"./{library}", "-Wl,-rpath,$ORIGIN"])

    def _run(self, arguments: Sequence[str]) -> None:
        with tempfile.TemporaryDirectory() as scratch:
            done = subprocess.run(
                [self.path, *arguments], cwd=self.folder, capture_output=True, text=True, check=False, timeout=COMPILE_SECONDS, env=_environment(scratch)
            )
        if done.returncode:
            lines = [line.strip() for line in done.stderr.splitlines() if "error" in line or "undefined reference" in line]
            raise TargetError(f"{self.machine.compiler} could not build the library: {' '.join(lines or done.stderr.splitlines())[:LONGEST]}")


def _environment(scratch: str) -> dict[str, str]:
    return {**os.environ, "TMPDIR": scratch, "LC_ALL": "C"}


def machine_of(option: str) -> Machine:
    """The aarch64 machine that ``cortex-a76,+dotprod,+fullfp16`` names: a CPU as LLVM calls it, then features; "" is a Cortex-A72 with NEON.

    Raises TargetError for a CPU or feature that LLVM does not know.
    """
    cpu, *features = option.split(",") if option else (DEFAULT_CPU, *DEFAULT_FEATURES)
    machine = dataclasses.replace(AARCH64, cpu=cpu or DEFAULT_CPU, features=tuple(features) or DEFAULT_FEATURES)
    _check_known(machine)
    return machine


def _check_known(machine: Machine) -> None:
    import tvm

    if not tvm.get_global_func("target.llvm_is_valid_cpu")(machine.cpu, machine.triple):
        raise TargetError(f"LLVM knows no {machine.architecture} CPU '{machine.cpu}'; it knows cortex-a53, cortex-a72, cortex-a76, neoverse-n1 and others")
    has_feature = tvm.get_global_func("target.llvm_cpu_has_feature")
    for feature in machine.features:
        name = feature[1:]
        asked = tvm.target.Target({"kind": "llvm", "mtriple": machine.triple, "mcpu": machine.cpu, "mattr": [f"+{name}"]})
        if feature[:1] not in ("+", "-") or not has_feature(name, asked):
            raise TargetError(f"'{feature}' is no feature of {machine.architecture} CPUs; features are +name or -name, as in +neon,+dotprod")
