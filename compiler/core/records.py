"""What the compiler writes down about its own work."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .cost import ModelSize
    from .coverage import SiteRecord


@dataclass(frozen=True)
class Rewrite:
    """One atomic change: the ``index``-th of its pass, by ``rule``, at the value named ``where``."""

    index: int
    rule: str
    where: str


@dataclass(frozen=True)
class Difference:
    """The worst element of a comparison, and what the contract allowed there.

    ``index`` points into the output named ``output`` for sample number ``sample``; ``reason`` says what differs when it is not an element (a shape, a dtype).
    """

    output: str
    max_abs: float
    max_rel: float
    allowed: float
    index: tuple[int, ...] = ()
    before: float = 0.0
    after: float = 0.0
    sample: int = 0
    broken: bool = False
    reason: str = ""


@dataclass(frozen=True)
class RolledBack:
    """A rewrite that was undone: which, why, the difference it made, and the folder that replays it."""

    rule: str
    where: str
    reason: str
    difference: Difference | None = None
    replay: str | None = None


@dataclass(frozen=True)
class PassRecord:
    """What one pass did to the model. Times are in seconds; ``coverage`` is what a compression pass did with each site, ``size`` how large
    the model was then, ``notes`` sentences for the report.
    """

    text: str
    drift: str
    changes: int
    rules: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    verify_seconds: float = 0.0
    difference: Difference | None = None
    rolled_back: tuple[RolledBack, ...] = ()
    nodes_before: int = 0
    nodes_after: int = 0
    coverage: tuple[SiteRecord, ...] = ()
    notes: tuple[str, ...] = ()
    size: ModelSize | None = None
