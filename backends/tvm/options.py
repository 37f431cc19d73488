"""How TVM builds a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Literal, get_args

from ...compiler.core.errors import ArtifactError

Fusion = Literal["plan", "own", "none", "one"]
"""Who says what becomes one kernel: our planner, TVM's FuseOps, or nobody; "one" is all of it."""


@dataclass(frozen=True)
class Options:
    """How a model is built.

    ``fusion`` says who fuses. ``fast_math`` computes exp, erf and tanh of single precision by polynomials that use all lanes of a processor
    (`vector_math`: right to a few units in the last place). ``channels_last`` lets images have their channels last (`layouts`).
    ``database`` is a folder with measured schedules ("" for none). ``kept`` is no wish but
    found: the places of outputs that are inputs or constants as they are.
    """

    fusion: Fusion = "plan"
    fast_math: bool = True
    channels_last: bool = True
    database: str = ""
    kept: tuple[int, ...] = ()

    def to_dict(self) -> dict[str, object]:
        """The options as a manifest holds them."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}


DEFAULT = Options()


def read_options(options: Mapping[str, object]) -> Options:
    """The opposite of `Options.to_dict`. Raises ArtifactError for what is no option."""
    known = {field.name: field.type for field in fields(Options)}
    for name, value in options.items():
        if name in known and (name != "fusion" or value in get_args(Fusion)):
            continue
        raise ArtifactError(f"'{name}={value}' is no option of the tvm backend")
    kept = options.get("kept", ())
    return Options(**{**options, "kept": tuple(kept) if isinstance(kept, (list, tuple)) else ()})  # type: ignore[arg-type]
