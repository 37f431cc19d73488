"""Rules: what they match, what they build, and the proof they carry."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType

import numpy as np
import onnx_ir as ir

from .build import Build
from .drift import Drift
from .graph import array, scalar
from .pattern import Binding, NodePattern, Pattern, trace
from .ranges import Ranges
from .reasons import Skip
from .regular import Forms
from .target import Target

Result = ir.Value | tuple[ir.Value, ...] | Skip | None
"""A replacement for each output of the pattern, why there is none, or None for "not my business"."""


class Match:
    """What a pattern matched; ``m.x`` is the value bound to the parameter ``x``.

    The engine lends every match what it shares among them: ``ranges`` (bounds of values) and ``forms`` (what the position alone tells of them),
    each found once. ``fast_math`` is whether the user allows what is only equal where both sides are defined, without a proof; ``target`` is what the model
    is compiled for.
    """

    ranges: Ranges
    forms: Forms
    fast_math: bool
    target: Target

    def __init__(self, root: ir.Node, outputs: tuple[ir.Value, ...], values: dict[str, ir.Value | None], nodes: dict[NodePattern, ir.Node]) -> None:
        self.root = root
        self.outputs = outputs
        self.nodes: dict[ir.Node, None] = dict.fromkeys(nodes.values())
        self._values = values
        self._named = {pattern.name: node for pattern, node in nodes.items() if pattern.name}

    def __getattr__(self, name: str) -> ir.Value:
        try:
            return self._values[name]  # type: ignore[return-value]
        except KeyError:
            raise AttributeError(f"the pattern has no parameter '{name}'") from None

    def node(self, name: str) -> ir.Node:
        """The node drawn with ``_name=name``."""
        return self._named[name]

    def has(self, name: str) -> bool:
        """Whether the pattern that matched has this parameter, and bound it."""
        return self._values.get(name) is not None

    def array(self, name: str) -> np.ndarray:
        """The content of a parameter annotated ``Const``."""
        found = array(self._values[name])
        if found is None:
            raise ValueError(f"'{name}' is not a constant")
        return found

    def scalar(self, name: str) -> float | int | bool | None:
        """The number in a one-element constant parameter, else None."""
        return scalar(self._values[name])

    def take(self, node: ir.Node) -> ir.Node:
        """Make one more node part of the match: it goes when the match is replaced, so its outputs may not be needed elsewhere."""
        self.nodes[node] = None
        return node

    def also(self, *values: ir.Value) -> None:
        """Replace further values together with the root's: ``build`` then returns a replacement for each of these too, after those of the root."""
        for value in values:
            node = value.producer()
            if node is None:
                raise ValueError(f"'{value.name}' is made by no node")
            self.nodes[node] = None
        self.outputs = (*self.outputs, *values)


@dataclass(frozen=True)
class Rule:
    """One rewrite: patterns (or root operators), the function that builds the replacement, its contract and its proof."""

    name: str
    equation: str
    build: Callable[[Build, Match], Result]
    patterns: tuple[Pattern, ...]
    roots: tuple[tuple[str, str], ...]
    drift: Drift
    examples: tuple[str, ...] = ()
    leaves: tuple[str, ...] = ()
    opset: int = 1
    kernels: tuple[str, ...] = ()
    shared: bool = False
    doubtful: tuple[str, ...] = ()
    lifts: int = 0
    measured: bool = False

    @property
    def anchors(self) -> tuple[tuple[str, str], ...]:
        """(domain, operator) of every node this rule can start at."""
        drawn = [(pattern.root.domain, kind) for pattern in self.patterns for kind in pattern.root.types]
        return tuple(dict.fromkeys([*drawn, *self.roots]))

    @property
    def depth(self) -> int:
        """How many nodes deep the rule looks upstream from its root."""
        return max((pattern.depth for pattern in self.patterns), default=4)


def rule(
    *draws: Callable[..., object] | str,
    drift: Drift,
    examples: list[str] | tuple[str, ...] = (),
    leaves: list[str] | tuple[str, ...] = (),
    opset: int = 1,
    kernels: tuple[str, ...] = (),
    shared: bool = False,
    doubtful: tuple[str, ...] = (),
    lifts: int = 0,
    measured: bool = False,
) -> Callable[[Callable[[Build, Match], Result]], Rule]:
    """Make a rule of a function ``build(op, m)`` whose docstring is its equation.

    ``draws`` are pattern functions, or root operators by name ("Conv", "com.microsoft::Gelu") for rules that look around by themselves
    (they claim further nodes with ``m.take``). ``examples`` are models in ONNX text it must fire on, ``leaves`` look-alikes it must leave alone.
    ``opset`` is the first default-domain opset it is valid for; ``kernels`` are "domain::Operator" names the target must have;
    ``shared=True`` lets it fire although values inside the match are needed elsewhere (their nodes then stay).
    ``doubtful`` names devices on which its kernel was measured to be slower than what it replaces: it is only tried there when asked for.
    ``lifts`` is the default-domain opset that the replacement needs; the engine lifts a canonical model to it when the rule fires.
    ``measured=True`` lets it fire only where its replacement is timed to be faster on this machine, when there is a judge to ask (`judge.Judge`).
    """

    def make(build: Callable[[Build, Match], Result]) -> Rule:
        patterns = tuple(trace(draw) for draw in draws if not isinstance(draw, str))
        roots = tuple(_root(draw) for draw in draws if isinstance(draw, str))
        name = build.__name__.strip("_").replace("_", "-")
        equation = " ".join((build.__doc__ or "").split())
        return Rule(name, equation, build, patterns, roots, drift, tuple(examples), tuple(leaves), opset, kernels, shared, doubtful, lifts, measured)

    return make


def _root(text: str) -> tuple[str, str]:
    domain, _, op_type = text.rpartition("::")
    return domain, op_type


def match_of(pattern: Pattern, root: ir.Node, binding: Binding) -> Match:
    """The match that a binding describes."""
    outputs = tuple(binding.nodes[value.node].outputs[value.index] for value in pattern.outputs)
    return Match(root, outputs, binding.values, binding.nodes)


def match_of_root(root: ir.Node) -> Match:
    """The match of a rule that names only its root operator: it replaces all the root's outputs."""
    match = Match(root, tuple(root.outputs), {}, {})
    match.nodes[root] = None
    return match


def rules_in(module: ModuleType) -> list[Rule]:
    """The rules a module defines, alone or in tuples (families made of a table), in the order they stand there."""
    found: list[Rule] = []
    for item in vars(module).values():
        found += [part for part in (item if isinstance(item, tuple) else (item,)) if isinstance(part, Rule)]
    return found
