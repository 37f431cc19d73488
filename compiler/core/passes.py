"""Passes, and pipelines as text.

A pass is a frozen dataclass; its fields are its options. A pipeline is a tuple of passes and reads and writes as
``fold-constants{max_bytes=1024},fuse{only=gelu}``; what has a meaning in this text is written as in a URL where a value holds it (``%2C``).
Passes are found by folder: any `Pass` defined in a module below ``graphwright.passes``.
"""

from __future__ import annotations

import dataclasses
import functools
import re
import urllib.parse
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import ClassVar

import onnx_ir as ir

from .backend import Progress
from .coverage import Coverage
from .drift import Drift
from .errors import UsageError
from .judge import Judge
from .ledger import Ledger
from .modules import classes_below
from .planning.plan import Profile
from .reasons import Reasons
from .statistics import Calibrator
from .target import PORTABLE, Target

OUR_PASSES = f"{__name__.partition('.')[0]}.passes."
"""What the names of modules with passes of this package start with."""


@dataclass
class Context:
    """What a pass is told: the target, the ledger that permits each change, rules to leave out, where to note why a rule did not fire, and who
    decides by timing where several kernels would do (None: nobody), who runs the model on the user's calibration data (None: there is none), where to
    note what was compressed and what was not, and what was measured of blocks of operators (None: nothing).

    ``original`` is the model before the first lossy pass, for those that recall it; ``progress`` is told what long work is at (None: nobody listens);
    ``notes`` takes sentences for the report.
    """

    target: Target = PORTABLE
    ledger: Ledger = field(default_factory=Ledger)
    fast_math: bool = False
    without: frozenset[str] = frozenset()
    reasons: Reasons | None = None
    judge: Judge | None = None
    calibrator: Calibrator | None = None
    coverage: Coverage = field(default_factory=Coverage)
    profile: Profile | None = None
    original: ir.Model | None = None
    progress: Progress | None = None
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Pass:
    """One step of a pipeline. One that compresses a model as a ``whole`` cannot put single sites back; one that ``recalls`` needs `Context.original`."""

    name: ClassVar[str]
    drift: ClassVar[Drift]
    whole: ClassVar[bool] = False
    recalls: ClassVar[bool] = False

    def run(self, model: ir.Model, context: Context) -> int:
        """Change ``model`` in place, asking ``context.ledger`` before each change; returns how many changes were made."""
        raise TypeError(f"{type(self).__name__} has no run")

    @classmethod
    def works_through(cls) -> tuple[str, ...]:
        """The only operators that it works through; () where it takes any."""
        return ()


def format_pass(step: Pass) -> str:
    """``name``, or ``name{option=value,...}`` with the options that differ from their defaults."""
    options = []
    for option in dataclasses.fields(step):
        value = getattr(step, option.name)
        if value != _default_of(option):
            options.append(f"{option.name}={_format_value(value)}")
    return f"{step.name}{{{','.join(options)}}}" if options else step.name


def format_pipeline(steps: Iterable[Pass]) -> str:
    """The pipeline as text; `parse_pipeline` reads it back."""
    return ",".join(format_pass(step) for step in steps)


def parse_pipeline(text: str) -> tuple[Pass, ...]:
    """Passes from text. Raises UsageError naming the pass or option that does not exist."""
    known = pass_classes()
    return tuple(_parse_pass(item, known) for item in _split(text))


@functools.cache
def pass_classes() -> dict[str, type[Pass]]:
    """Every pass by name, from every module below ``graphwright.passes``."""
    return classes_below("passes", Pass)


def _split(text: str) -> list[str]:
    parts = re.findall(r"[^,{]+(?:\{[^}]*\})?", text.strip())
    if "".join(parts).replace(",", "") != text.replace(",", "").strip():
        raise UsageError(f"cannot read the pipeline '{text}': a '{{' or '}}' is out of place")
    return [part.strip() for part in parts if part.strip()]


def _parse_pass(item: str, known: dict[str, type[Pass]]) -> Pass:
    name, _, rest = item.partition("{")
    step = known.get(name)
    if step is None:
        raise UsageError(f"there is no pass '{name}'; 'graphwright passes' lists them")
    return step(**_parse_options(step, rest.rstrip("}")))


def _parse_options(step: type[Pass], text: str) -> dict[str, object]:
    declared = {option.name: option for option in dataclasses.fields(step)}
    options: dict[str, object] = {}
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        key, equals, value = part.partition("=")
        if key not in declared or not equals:
            raise UsageError(f"the pass '{step.name}' has no option '{key}'; it has: {', '.join(declared) or 'none'}")
        options[key] = _parse_value(step, key, value, _default_of(declared[key]))
    return options


def _default_of(option: dataclasses.Field) -> object:
    if option.default_factory is not dataclasses.MISSING:
        return option.default_factory()
    return option.default


def _parse_value(step: type[Pass], key: str, text: str, default: object) -> object:
    """Read an option by the type of its default: a tuple is written ``a+b+c``."""
    try:
        if isinstance(default, bool):
            return {"true": True, "false": False}[text]
        if isinstance(default, int):
            return int(text)
        if isinstance(default, float):
            return float(text)
    except (ValueError, KeyError):
        raise UsageError(f"the option '{key}' of '{step.name}' takes a {type(default).__name__}, not '{text}'") from None
    if isinstance(default, tuple):
        return tuple(urllib.parse.unquote(part) for part in text.split("+") if part)
    return urllib.parse.unquote(text)


def _format_value(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return "+".join(_quote(str(item)) for item in value)
    return _quote(value) if isinstance(value, str) else str(value)


def _quote(text: str) -> str:
    """Text without the signs that pipelines are written with."""
    return re.sub(r"[%+,{}=\s]", lambda sign: urllib.parse.quote(sign.group(), safe=""), text)
