"""Passes that spoil a model in a chosen way, and a manager to run them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from graphwright.backends.ort.backend import OrtBackend
from graphwright.compiler.core.drift import EXACT, LOSSY, ROUNDING, Drift
from graphwright.compiler.core.graph import bind_opsets, clone_model, is_op, make_constant
from graphwright.compiler.core.names import Names
from graphwright.compiler.core.passes import Context, Pass
from graphwright.compiler.core.records import PassRecord
from graphwright.compiler.core.target import PORTABLE
from graphwright.compiler.core.wellformed import check
from graphwright.compiler.manager import Manager
from graphwright.compiler.samples import generate
from graphwright.compiler.verify import Verifier


def model_of(body: str, opset: int = 18) -> ir.Model:
    model = ir.from_onnx_text(f'<ir_version: 9, opset_import: ["" : {opset}]>\n{body}')
    bind_opsets(model)
    return model


def chain(count: int) -> ir.Model:
    """y = x + c_0 + Identity ... : ``count`` Identity nodes, each followed by an addition of its own number."""
    lines, before = [], "x"
    for number in range(count):
        lines.append(f"i_{number} = Identity({before}) a_{number} = Add(i_{number}, c)")
        before = f"a_{number}"
    return model_of(f"g (float[N,4] x) => (float[N,4] y) <float[4] c = {{0.5,1,-2,0.25}}> {{ {' '.join(lines)} y = Relu({before}) }}")


def verifier_of(model: ir.Model) -> Verifier:
    backend = OrtBackend()
    runner = backend.reference(model)
    try:
        samples = generate(model, run=runner.run)
    finally:
        runner.close()
    return Verifier(model, samples, backend)


Spoil = Callable[[ir.Model, ir.Node], None]


@dataclass(frozen=True)
class DropIdentity(Pass):
    """Drops every Identity, each a rewrite of its own; ``faults`` maps the place of some to what else happens there."""

    name: ClassVar[str] = "drop-identity"
    drift: ClassVar[Drift] = EXACT

    faults: tuple[tuple[str, Spoil], ...] = ()

    def run(self, model: ir.Model, context: Context) -> int:
        faults, done = dict(self.faults), 0
        for node in list(model.graph):
            where = node.outputs[0].name or ""
            if not is_op(node, "Identity") or not context.ledger.permit("drop-one", where):
                continue
            user = node.outputs[0].uses()[0].node if node.outputs[0].uses() else None
            source = node.inputs[0]
            assert source is not None
            node.outputs[0].replace_all_uses_with(source)
            model.graph.remove(node, safe=True)
            done += 1
            if where in faults and user is not None:
                faults[where](model, user)
        return done


def nudge(amount: float) -> Spoil:
    """Give the addition another constant."""

    def spoil(model: ir.Model, node: ir.Node) -> None:
        wrong = np.array([0.5, 1, -2, 0.25], np.float32) + np.float32(amount)
        node.replace_input_with(1, make_constant(model.graph, wrong, Names(model).fresh("wrong")))

    return spoil


def clear_nan(model: ir.Model, node: ir.Node) -> None:
    """NaN becomes 0, nothing else changes."""
    bad, zero = ir.node("IsNaN", [node.inputs[0]], name="bad_node"), make_constant(model.graph, np.array(0, np.float32), "zero_0")
    bad.outputs[0].name = "bad_0"
    where = ir.node("Where", [bad.outputs[0], zero, node.inputs[0]], name="where_node")
    where.outputs[0].name = "where_0"
    model.graph.insert_before(node, [bad, where])
    node.replace_input_with(0, where.outputs[0])


def assume_many_rows(model: ir.Model, node: ir.Node) -> None:
    """Right unless there is one row: adds the sum of (rows == 1)."""
    pieces = [
        ir.node("Shape", [node.inputs[0]], {"start": 0, "end": 1}),
        ir.node("Equal", [None, make_constant(model.graph, np.array([1], np.int64), "one_0")]),
        ir.node("Cast", [None], {"to": ir.DataType.FLOAT}),
        ir.node("Add", [node.inputs[0], None]),
    ]
    for place, piece in enumerate(pieces):
        piece.outputs[0].name = f"rows_{place}"
    pieces[1].replace_input_with(0, pieces[0].outputs[0])
    pieces[2].replace_input_with(0, pieces[1].outputs[0])
    pieces[3].replace_input_with(1, pieces[2].outputs[0])
    model.graph.insert_before(node, pieces)
    node.replace_input_with(0, pieces[3].outputs[0])


def raise_it(model: ir.Model, node: ir.Node) -> None:
    """A rule with a bug."""
    raise KeyError("no such node")


def dangle(model: ir.Model, node: ir.Node) -> None:
    """Let the addition read a value that nobody makes."""
    node.replace_input_with(1, ir.Value(name="nowhere", type=ir.TensorType(ir.DataType.FLOAT)))


@dataclass(frozen=True)
class Scale(Pass):
    """Multiplies the output's source by ``factor``; without asking the ledger when ``silent``."""

    name: ClassVar[str] = "scale"
    drift: ClassVar[Drift] = ROUNDING

    factor: float = 1.0
    silent: bool = False

    def run(self, model: ir.Model, context: Context) -> int:
        node = next(node for node in model.graph if is_op(node, "Relu"))
        if not self.silent and not context.ledger.permit("scale-one", node.outputs[0].name or ""):
            return 0
        value = make_constant(model.graph, np.array(self.factor, np.float32), Names(model).fresh("factor"))
        product = ir.node("Mul", [node.inputs[0], value])
        product.outputs[0].name = Names(model).fresh("product")
        model.graph.insert_before(node, product)
        node.replace_input_with(0, product.outputs[0])
        return 1


@dataclass(frozen=True)
class Lossy(Scale):
    """Changes the numbers on purpose."""

    name: ClassVar[str] = "lossy"
    drift: ClassVar[Drift] = LOSSY


@dataclass(frozen=True)
class Raise(Pass):
    """Makes a change, then raises ``error``."""

    name: ClassVar[str] = "raise-it"
    drift: ClassVar[Drift] = EXACT

    error: type[Exception] = ZeroDivisionError

    def run(self, model: ir.Model, context: Context) -> int:
        model.graph.outputs.clear()
        raise self.error("half-way")


def managed(model: ir.Model, *steps: Pass, **options: object) -> tuple[PassRecord, ...]:
    """Run the passes; whatever they do, the model must come out well formed and with the bits it had."""
    before, verifier = clone_model(model), verifier_of(model)
    records = Manager(PORTABLE, verifier, **options).run(model, steps)  # type: ignore[arg-type]
    check(model)
    assert not verifier.check_against(before, model, EXACT).broken
    return records


def identities(model: ir.Model) -> list[str]:
    """Where an Identity is left."""
    return [node.outputs[0].name or "" for node in model.graph if is_op(node, "Identity")]


def undone(record: PassRecord) -> list[tuple[str, str]]:
    """What was rolled back."""
    return [(item.rule, item.where) for item in record.rolled_back]
