"""Training that is kept in a file goes on from there, and from no other's."""

from __future__ import annotations

from pathlib import Path

import onnx_ir as ir
import pytest

from graphwright.compiler.core.errors import InputError, UsageError
from graphwright.compiler.core.graph import clone_model
from graphwright.passes.differentiable.descent import Adam
from graphwright.passes.recover.kept import Kept
from graphwright.passes.recover.recover import Recover

from .recovered_models import NET, WEIGHTS, context, drawn, piped, samples

pytest.importorskip("torch")

DATA = samples((4, 16))
STEPS = 60


class Killed(Exception):
    """Stands for the end of a process."""


@pytest.fixture(scope="module")
def models() -> tuple[ir.Model, ir.Model]:
    net = drawn(NET, WEIGHTS)
    return net, piped(net, "prune-structured{ratio=0.3,of=members,refit=false}", DATA)[0]


def trained(models: tuple[ir.Model, ir.Model], keep: Path, data: list = DATA, **options: float) -> tuple[ir.Model, str]:
    original, pruned = models
    copy = clone_model(pruned)
    told = context(copy, original, data)
    Recover(**{"rate": 0.003, "steps": STEPS, "keep": str(keep), **options}).run(copy, told)  # type: ignore[arg-type]
    return copy, told.notes[0]


def killed(models: tuple[ir.Model, ir.Model], keep: Path, monkeypatch: pytest.MonkeyPatch, looks: int) -> None:
    """Train until so many looks were kept."""
    save, kept = Kept.save, []

    def once(self: Kept, arrays: dict) -> None:
        save(self, arrays)
        kept.append(arrays)
        if len(kept) == looks:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Kept, "save", once)
        with pytest.raises(Killed):
            trained(models, keep)


def test_training_that_was_stopped_takes_only_the_steps_that_are_left(
    models: tuple[ir.Model, ir.Model], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed(models, tmp_path / "kept", monkeypatch, looks=10)
    taken, step = [], Adam.step

    def counted(self: Adam, *arguments: object) -> None:
        taken.append(arguments)
        step(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Adam, "step", counted)
    _, note = trained(models, tmp_path / "kept")
    assert STEPS / 4 < len(taken) < 3 * STEPS / 4
    assert f"in {STEPS} steps" in note
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_what_was_trained_to_the_end_is_taken_as_it_is(models: tuple[ir.Model, ir.Model], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, note = trained(models, tmp_path / "kept")
    monkeypatch.setattr(Adam, "step", lambda *_: pytest.fail("there is nothing left to do"))
    again, told = trained(models, tmp_path / "kept")
    assert note.split(" in ")[0] == told.split(" in ")[0]
    for name, value in first.graph.initializers.items():
        assert (value.const_value.numpy() == again.graph.initializers[name].const_value.numpy()).all()


@pytest.mark.parametrize("other", [{"seed": 1}, {"steps": 2 * STEPS}, {"data": samples((4, 16), seed=5)}])
def test_the_training_of_another_model_or_data_is_refused(models: tuple[ir.Model, ir.Model], tmp_path: Path, other: dict) -> None:
    trained(models, tmp_path / "kept")
    with pytest.raises(UsageError, match="is of a"):
        trained(models, tmp_path / "kept", **other)


def test_a_file_that_holds_no_training_is_refused(models: tuple[ir.Model, ir.Model], tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("nothing")
    with pytest.raises(InputError, match="holds no training"):
        trained(models, tmp_path / "kept")


def test_a_place_that_cannot_be_written_is_named(models: tuple[ir.Model, ir.Model], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be kept"):
        trained(models, tmp_path / "absent" / "kept")
