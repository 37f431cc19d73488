"""The machines that code is generated for."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

from ...compiler.core.errors import BackendMissing
from ...compiler.core.target import Target
from .threads import cores, processors

if TYPE_CHECKING:
    import tvm

CPU = "tvm-cpu"
HELP = "pip install 'graphwright[tvm]'"


def cpu_target() -> Target:
    """TVM on this machine's CPU: standard operators only. Raises BackendMissing when TVM is not installed."""
    require_tvm(CPU)
    return Target(CPU, "tvm", "cpu", overrides=False)


def require_tvm(target: str) -> None:
    """Raise BackendMissing when TVM is not installed; nothing is imported."""
    if importlib.util.find_spec("tvm") is None:
        raise BackendMissing(f"the target {target} needs apache-tvm: {HELP}")


def this_machine() -> tvm.target.Target:
    """The CPU that runs this, with all instructions that it has."""
    import tvm
    from tvm.target import codegen

    return tvm.target.Target(
        {
            "kind": "llvm",
            "mtriple": codegen.llvm_get_system_triple(),
            "mcpu": codegen.llvm_get_system_cpu(),
            "num-cores": cores(processors()),
        }
    )
