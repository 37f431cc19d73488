"""The manager keeps what holds and undoes, by name, what does not."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import onnx_ir as ir
import pytest

from graphwright.backends.ort.backend import OrtBackend
from graphwright.compiler.core.drift import EXACT, Drift
from graphwright.compiler.core.errors import ContractError, PassError, TargetError
from graphwright.compiler.core.graph import all_graphs, is_op
from graphwright.compiler.core.passes import Context, Pass, parse_pipeline, pass_classes
from graphwright.compiler.core.target import PORTABLE
from graphwright.compiler.core.wellformed import check
from graphwright.compiler.manager import Manager
from graphwright.compiler.verify import Verifier

from .managing import (
    DropIdentity,
    Raise,
    Scale,
    Spoil,
    assume_many_rows,
    chain,
    clear_nan,
    dangle,
    identities,
    managed,
    model_of,
    nudge,
    raise_it,
    undone,
    verifier_of,
)


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
