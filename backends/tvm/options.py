"""How TVM builds a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Literal, get_args

from ...compiler.core.errors import ArtifactError

Fusion = Literal["plan", "own", "none"]
"""Who says what becomes one kernel: our planner, TVM's FuseOps, or nobody."""


@dataclass(frozen=True)
class Options:
    """``fusion`` says who fuses, ``fast_math`` replaces exp, erf and tanh by polynomials that compilers vectorise (errors of a few units in the last place
    are checked like all others), ``database`` is a folder with measured schedules ("" for none).
    """

    fusion: Fusion = "plan"
    fast_math: bool = False
    database: str = ""

    def to_dict(self) -> dict[str, object]:
        """The options as a manifest holds them."""
        return asdict(self)


DEFAULT = Options()


def read_options(options: Mapping[str, object]) -> Options:
    """The opposite of `Options.to_dict`. Raises ArtifactError for what is no option."""
    known = {field.name: field.type for field in fields(Options)}
    for name, value in options.items():
        if name in known and (name != "fusion" or value in get_args(Fusion)):
            continue
        raise ArtifactError(f"'{name}={value}' is no option of the tvm backend")
    return Options(**options)  # type: ignore[arg-type]
