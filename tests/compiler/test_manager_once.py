"""What a manager checks once for all passes, and what lossy passes and signatures ask of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
import pytest

from graphwright.backends.ort.backend import OrtBackend
from graphwright.compiler.core.backend import Runner
from graphwright.compiler.core.graph import clone_model
from graphwright.compiler.core.passes import Context
from graphwright.compiler.core.target import PORTABLE
from graphwright.compiler.core.wellformed import check
from graphwright.compiler.manager import Manager
from graphwright.compiler.verify import Verifier

from .managing import DropIdentity, Lossy, Scale, chain, dangle, identities, managed, nudge, raise_it, undone, verifier_of


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
