"""Drawings as models in ONNX text: the examples that laws carry."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping

from ...compiler.core.pattern import ANY, Const

Bounds = tuple[float, float]

SHAPE = "[N,3]"


class Sketch:
    """A pen that writes text: each operator becomes a statement, each number an initialiser."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.statements: list[tuple[str, str]] = []
        self.constants: list[str] = []

    def any(self, *types: str) -> Callable[..., str]:
        """The first of several operators."""

        def draw(*inputs: object, _attrs: object = None, _name: str | None = None, _domain: str = "", **attributes: object) -> str:
            made = f"t{len(self.statements)}"
            shown = ", ".join(f"{key}={_text(value)}" for key, value in attributes.items() if value is not ANY)
            operands = ", ".join(map(self._operand, inputs))
            self.statements.append((made, f"{types[0]}{f'<{shown}>' if shown else ''}({operands})"))
            return made

        return draw

    def __getattr__(self, op_type: str) -> Callable[..., str]:
        return self.any(op_type)

    def constant(self, kind: str, content: str) -> str:
        """An initialiser; its name."""
        made = f"k{len(self.constants)}"
        self.constants.append(f"{kind} {made} = {{{content}}}")
        return made

    def _operand(self, item: object) -> str:
        if item is None:
            return ""
        return item if isinstance(item, str) else self.constant("bool" if isinstance(item, bool) else self.kind, _text(item))


def _text(value: object) -> str:
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, str):
        return f'"{value}"'
    return repr(value).replace(" ", "")


def sketch(drawing: Callable[..., object], kind: str, given: Mapping[str, str], result: str, bounds: Mapping[str, Bounds]) -> str:
    """A model that computes what is drawn, of inputs of the type ``given`` says, and proven to lie within ``bounds``.

    ``given`` holds ``type[shape]`` of an input, or ``type[shape] = {numbers}`` of a constant.
    """
    pen = Sketch(kind)
    inputs: list[str] = []
    operands = []
    for name, parameter in list(inspect.signature(drawing).parameters.items())[1:]:
        constant = parameter.annotation is Const
        shown, _, content = given.get(name, f"{kind} = {{2}}" if constant else f"{kind}{SHAPE}").partition(" = ")
        if content:
            pen.constants.append(f"{shown} {name} = {content}")
        elif name in bounds:
            inputs.append(f"int8{shown[len(kind) :]} {name}_raw")
            low, high = (pen.constant(kind, repr(float(end))) for end in bounds[name])
            pen.statements += [(f"{name}_number", f"Cast<to=1>({name}_raw)"), (name, f"Clip({name}_number, {low}, {high})")]
        else:
            inputs.append(f"{shown} {name}")
        operands.append(name)
    drawing(pen, *operands)
    made, last = pen.statements.pop()
    body = " ".join(f"{target} = {text}" for target, text in [*pen.statements, ("out", last)])
    return f"g ({', '.join(inputs)}) => ({result or kind + SHAPE} out) <{', '.join(pen.constants)}> {{ {body} }}".replace(" <>", "")
