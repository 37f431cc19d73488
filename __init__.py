"""graphwright: a compiler for neural-network graphs.

`compile` makes a verified and measured artifact of a model, `optimize` only rewrites its graph, `load` opens a saved artifact.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .compiler.artifact import Artifact
    from .compiler.core.errors import GraphwrightError
    from .compiler.core.target import Target
    from .compiler.driver import compile, load, optimize

__version__ = "0.1.0"
__all__ = ["Artifact", "GraphwrightError", "Target", "compile", "load", "optimize"]

_HOMES = {
    "Artifact": ".compiler.artifact",
    "GraphwrightError": ".compiler.core.errors",
    "Target": ".compiler.core.target",
    "compile": ".compiler.driver",
    "load": ".compiler.driver",
    "optimize": ".compiler.driver",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'graphwright' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOMES[name], __name__), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
