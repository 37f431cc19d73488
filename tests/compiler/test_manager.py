"""The manager keeps what holds and undoes, by name, what does not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import onnx_ir as ir
import pytest

from graphwright.backends.ort.backend import OrtBackend
from graphwright.compiler.core.backend import Runner
from graphwright.compiler.core.drift import EXACT, LOSSY, ROUNDING, Drift
from graphwright.compiler.core.errors import ContractError, PassError, TargetError
from graphwright.compiler.core.graph import all_graphs, bind_opsets, clone_model, is_op, make_constant
from graphwright.compiler.core.names import Names
from graphwright.compiler.core.passes import Context, Pass, parse_pipeline, pass_classes
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


def test_a_pass_that_holds_is_kept_with_its_rules_counted() -> None:
    model = chain(5)
    (record,) = managed(model, DropIdentity())
    assert identities(model) == [] and record.changes == 5 and record.rules == {"drop-one": 5}
    assert (record.nodes_before, record.nodes_after) == (11, 6)
    assert record.difference is not None and record.difference.max_abs == 0 and not record.rolled_back


def test_one_bad_rewrite_of_a_hundred_is_undone_and_the_others_stay() -> None:
    model = chain(100)
    (record,) = managed(model, DropIdentity((("i_61", nudge(1e-6)),)))
    assert identities(model) == ["i_61"] and undone(record) == [("drop-one", "i_61")] and record.changes == 99
    difference = record.rolled_back[0].difference
    assert difference is not None and difference.broken and difference.output == "y" and difference.allowed == 0


def test_two_independent_faults_are_both_found() -> None:
    model = chain(100)
    (record,) = managed(model, DropIdentity((("i_17", nudge(0.1)), ("i_80", nudge(-0.1)))))
    assert sorted(identities(model)) == ["i_17", "i_80"] and sorted(where for _, where in undone(record)) == ["i_17", "i_80"]


def test_two_faults_that_cancel_out_break_nothing() -> None:
    model = model_of("g (float[2] x) => (float[2] y) <float a = {1}, float b = {-1}> { i = Identity(x) p = Add(i, a) j = Identity(p) y = Add(j, b) }")

    def swapped(name: str) -> Spoil:
        return lambda model, node: node.replace_input_with(1, model.graph.initializers[name])

    verifier = Verifier(model, [{"x": np.array([1, 2], np.float32)}], OrtBackend())
    (record,) = Manager(PORTABLE, verifier).run(model, [DropIdentity((("i", swapped("b")), ("j", swapped("a"))))])
    assert not record.rolled_back and identities(model) == []


def test_a_fault_that_only_nan_shows_is_undone() -> None:
    model = chain(20)
    (record,) = managed(model, DropIdentity((("i_7", clear_nan),)))
    assert identities(model) == ["i_7"] and undone(record) == [("drop-one", "i_7")]


def test_a_fault_that_only_a_dimension_of_one_shows_is_undone() -> None:
    model = chain(20)
    (record,) = managed(model, DropIdentity((("i_3", assume_many_rows),)))
    assert identities(model) == ["i_3"] and undone(record) == [("drop-one", "i_3")]


def test_a_rewrite_that_raises_is_undone_and_the_others_stay() -> None:
    model = chain(20)
    (record,) = managed(model, DropIdentity((("i_5", raise_it),)))
    assert identities(model) == ["i_5"] and record.changes == 19
    assert "raised KeyError" in record.rolled_back[0].reason


def test_a_rewrite_that_leaves_a_dangling_value_is_undone() -> None:
    model = chain(20)
    (record,) = managed(model, DropIdentity((("i_9", dangle),)))
    assert identities(model) == ["i_9"] and "'nowhere'" in record.rolled_back[0].reason


def test_faults_of_three_kinds_in_one_pass_are_all_found() -> None:
    model = chain(40)
    (record,) = managed(model, DropIdentity((("i_9", dangle), ("i_20", raise_it), ("i_30", nudge(1.0)))))
    assert sorted(identities(model)) == ["i_20", "i_30", "i_9"] and len(record.rolled_back) == 3 and record.changes == 37


def test_a_rule_that_is_wrong_everywhere_is_left_out_after_a_few_tries() -> None:
    model = chain(60)
    (record,) = managed(model, DropIdentity(tuple((f"i_{number}", nudge(1.0 + number)) for number in range(60))))
    assert len(identities(model)) == 60 and record.changes == 0 and 1 < len(record.rolled_back) < 10


@pytest.mark.parametrize("error", [ZeroDivisionError, PassError, MemoryError, RecursionError])
def test_a_pass_that_raises_before_any_rewrite_is_undone_as_a_whole(error: type[Exception]) -> None:
    model = chain(3)
    first, second = managed(model, Raise(error), DropIdentity())
    assert [item.rule for item in first.rolled_back] == ["raise-it"] and error.__name__ in first.rolled_back[0].reason
    assert first.changes == 0 and second.changes == 3


def test_a_change_that_no_ledger_saw_is_undone_as_a_whole() -> None:
    model = chain(3)
    (record,) = managed(model, Scale(1.5, silent=True))
    assert "the whole pass was undone" in record.rolled_back[0].reason and record.nodes_after == record.nodes_before


def test_a_refused_request_is_passed_on_and_the_model_stays_as_it_was() -> None:
    model = chain(3)
    for each in (True, False):
        with pytest.raises(TargetError, match="half-way"):
            Manager(PORTABLE, verifier_of(model), each=each).run(model, [DropIdentity(), Raise(TargetError)])
        check(model)


def test_an_interrupt_leaves_a_whole_model() -> None:
    for each in (True, False):
        model = chain(3)
        with pytest.raises(KeyboardInterrupt):
            Manager(PORTABLE, verifier_of(model), each=each).run(model, [Raise(KeyboardInterrupt)])  # type: ignore[arg-type]
        check(model)
        assert len(model.graph.outputs) == 1


def test_strict_raises_instead_of_undoing() -> None:
    model = chain(4)
    with pytest.raises(ContractError, match="drop-identity"):
        Manager(PORTABLE, verifier_of(model), strict=True).run(model, [DropIdentity((("i_2", nudge(1.0)),))])
    with pytest.raises(KeyError):
        Manager(PORTABLE, verifier_of(model), strict=True).run(model, [DropIdentity((("i_2", raise_it),))])


class Counting:
    """A backend that counts the models it was asked to run."""

    def __init__(self) -> None:
        self.backend, self.opened = OrtBackend(), 0

    def reference(self, model: ir.Model) -> Runner:
        self.opened += 1
        return self.backend.reference(model)


def test_a_pass_without_changes_is_not_verified() -> None:
    model, backend = chain(0), Counting()
    verifier = Verifier(model, [{"x": np.ones((2, 4), np.float32)}], backend)
    opened = backend.opened
    (record,) = Manager(PORTABLE, verifier).run(model, [DropIdentity()])
    assert backend.opened == opened and record.difference is None and record.changes == 0


def test_checking_once_opens_one_session_for_all_passes() -> None:
    model, backend = chain(6), Counting()
    verifier = Verifier(model, [{"x": np.ones((2, 4), np.float32)}], backend)
    opened = backend.opened
    records = Manager(PORTABLE, verifier, each=False).run(model, [DropIdentity(), DropIdentity(), DropIdentity()])
    assert backend.opened == opened + 1 and identities(model) == []
    assert [record.difference is not None for record in records] == [True, False, False]


def test_checking_once_falls_back_to_checking_each_pass() -> None:
    model = chain(30)
    first, second = managed(model, DropIdentity((("i_11", nudge(1.0)), ("i_12", dangle))), Scale(1.0), each=False)
    assert identities(model) == ["i_11", "i_12"] and len(first.rolled_back) == 2
    assert not second.rolled_back and second.changes == 1


def test_without_a_verifier_the_form_is_still_checked() -> None:
    model = chain(30)
    (record,) = Manager(PORTABLE).run(model, [DropIdentity((("i_11", nudge(1.0)), ("i_12", dangle), ("i_13", raise_it)))])
    check(model)
    assert identities(model) == ["i_12", "i_13"] and len(record.rolled_back) == 2


def test_a_lossy_pass_becomes_the_reference_of_what_follows() -> None:
    model = chain(10)
    verifier = verifier_of(model)
    lossy, exact = Manager(PORTABLE, verifier).run(model, [Lossy(1.25), DropIdentity((("i_4", nudge(1e-3)),))])
    assert lossy.changes == 1 and not lossy.rolled_back
    assert identities(model) == ["i_4"] and undone(exact) == [("drop-one", "i_4")]


def test_a_verifier_serves_several_pipelines_one_after_the_other() -> None:
    model = chain(10)
    verifier = verifier_of(model)
    scaled, plain = clone_model(model), clone_model(model)
    (first,) = Manager(PORTABLE, verifier).run(scaled, [Scale(float(np.nextafter(np.float32(1), np.float32(2))))])
    assert first.changes == 1 and not first.rolled_back
    (second,) = Manager(PORTABLE, verifier).run(plain, [DropIdentity()])
    assert second.changes == 10 and not second.rolled_back
    (third,) = Manager(PORTABLE, verifier).run(scaled, [DropIdentity((("i_4", nudge(1e-6)),))])
    assert third.changes == 9 and undone(third) == [("drop-one", "i_4")]


def test_a_pass_that_does_what_the_ledger_forbids_is_undone_as_a_whole() -> None:
    @dataclass(frozen=True)
    class Stubborn(DropIdentity):
        def run(self, model: ir.Model, context: Context) -> int:
            done = super().run(model, Context(context.target))
            context.ledger.permit("drop-one", "i_1")
            return done

    model = chain(3)
    (record,) = managed(model, Stubborn((("i_1", nudge(1.0)),)))
    assert record.changes == 0 and "the whole pass was undone" in record.rolled_back[-1].reason


def test_a_lossy_pass_may_not_make_nan_of_numbers() -> None:
    model = chain(3)
    (record,) = managed(model, Lossy(float("nan")))
    assert undone(record) == [("scale-one", "y")]


@pytest.mark.parametrize("spoil", [lambda value: setattr(value, "shape", ir.Shape([3, 4])), lambda value: setattr(value, "name", "renamed")])
def test_a_pass_may_not_change_what_the_model_takes(spoil: Callable[[ir.Value], None]) -> None:
    @dataclass(frozen=True)
    class Freeze(DropIdentity):
        def run(self, model: ir.Model, context: Context) -> int:
            done = super().run(model, context)
            if done:
                spoil(model.graph.inputs[0])
            return done

    for each in (True, False):
        model = chain(2)
        (record,) = managed(model, Freeze(), each=each)
        assert len(record.rolled_back) == 2 and "input" in record.rolled_back[0].reason


def test_progress_names_the_pass_and_what_is_undone() -> None:
    told: list[str] = []
    managed(chain(8), DropIdentity((("i_4", nudge(1.0)),)), progress=told.append)
    assert any("undoing drop-one at 'i_4'" in line for line in told)


def test_the_same_fault_is_found_again_on_every_run() -> None:
    found = [undone(managed(chain(33), DropIdentity((("i_20", nudge(1.0)), ("i_21", clear_nan))))[0]) for _ in range(2)]
    assert found[0] == found[1] and len(found[0]) == 2


def test_a_fault_inside_a_subgraph_is_undone() -> None:
    model = model_of(
        "g (bool b, float[N] x) => (float[N] y) { y = If(b) <then_branch = t () => (float[N] u) { i = Identity(x) u = Neg(i) },"
        " else_branch = e () => (float[N] v) { j = Identity(x) v = Abs(j) }> }"
    )

    @dataclass(frozen=True)
    class DropInner(Pass):
        name: ClassVar[str] = "drop-inner"
        drift: ClassVar[Drift] = EXACT

        def run(self, model: ir.Model, context: Context) -> int:
            done = 0
            for graph in all_graphs(model):
                for node in list(graph):
                    if is_op(node, "Identity") and context.ledger.permit("drop-one", node.outputs[0].name or ""):
                        user = node.outputs[0].uses()[0].node
                        node.outputs[0].replace_all_uses_with(node.inputs[0])
                        graph.remove(node, safe=True)
                        done += 1
                        if is_op(user, "Abs"):
                            other = ir.node("Relu", user.inputs)
                            other.outputs[0].name = "w"
                            graph.insert_before(user, other)
                            user.outputs[0].replace_all_uses_with(other.outputs[0], replace_graph_outputs=True)
                            graph.remove(user, safe=True)
            return done

    (record,) = managed(model, DropInner())
    assert undone(record) == [("drop-one", "j")] and record.changes == 1


def test_a_replay_folder_is_written_for_each_rewrite_undone(tmp_path: Path) -> None:
    (record,) = managed(chain(20), DropIdentity((("i_3", nudge(1.0)), ("i_9", raise_it))), replay_folder=tmp_path / "replays")
    folders = [Path(item.replay or "") for item in record.rolled_back]
    assert len(set(folders)) == 2 and all((folder / "replay.json").is_file() and (folder / "before.onnx").is_file() for folder in folders)


def test_a_replay_folder_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    model = chain(5)
    (record,) = managed(model, DropIdentity((("i_3", nudge(1.0)),)), replay_folder=tmp_path / "file" / "replays")
    assert identities(model) == ["i_3"] and record.rolled_back[0].replay is None


def test_a_pass_of_ours_does_not_run_again_until_something_has_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    ran = []
    for kind in (pass_classes()["drop-no-ops"], pass_classes()["fold-constants"]):
        monkeypatch.setattr(kind, "run", lambda self, model, context, run=kind.run: ran.append(self.name) or run(self, model, context))
    model = chain(5)
    records = Manager(PORTABLE).run(model, parse_pipeline("drop-no-ops,fold-constants,drop-no-ops,fold-constants,drop-no-ops"))
    assert [record.changes for record in records] == [5, 0, 0, 0, 0]
    assert ran == ["drop-no-ops", "fold-constants"]
