"""Parts hand values on without copying them, and a fast runner serves only what it was made for."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from graphwright.compiler.core.backend import Array, Port
from graphwright.compiler.partition.runner import GuardedRunner, PartsRunner, Wanted, steps_of

FLOAT = np.dtype(np.float32)
IN, OUT = Port("x", "tensor(float)", (2,)), Port("z", "tensor(float)", (2,))


class Adds:
    """Adds one to what it is fed, and remembers it."""

    inputs = outputs = ()

    def __init__(self, reads: str, makes: str) -> None:
        self.reads, self.makes = reads, makes
        self.fed: list[Mapping[str, Array]] = []
        self.closed = False

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        self.fed.append(dict(feeds))
        return {self.makes: feeds[self.reads] + FLOAT.type(1)}

    def close(self) -> None:
        self.closed = True


def two_parts() -> tuple[list[Adds], PartsRunner]:
    parts = [Adds("x", "y"), Adds("y", "z")]
    return parts, PartsRunner((IN,), (OUT,), steps_of(parts, [("x",), ("y",)], ("z",)))


def guarded(value: int | None = None) -> tuple[Adds, list[Adds], GuardedRunner]:
    fast, opened = Adds("x", "z"), []

    def open_whole() -> Adds:
        opened.append(Adds("x", "z"))
        return opened[-1]

    wanted = [Wanted("x", FLOAT, (2,)), Wanted("n", np.dtype(np.int64), (), value)]
    return fast, opened, GuardedRunner(fast, open_whole, wanted)


def feeds(size: int = 2, number: int = 3, dtype: type = np.float32) -> dict[str, np.ndarray]:
    return {"x": np.ones(size, dtype), "n": np.array(number)}


def test_values_are_handed_on_as_the_arrays_they_are() -> None:
    parts, runner = two_parts()
    x = np.zeros(2, np.float32)
    result = runner.run({"x": x})
    assert list(result) == ["z"] and result["z"].tolist() == [2, 2]
    assert parts[0].fed[0]["x"] is x and set(parts[1].fed[0]) == {"y"}


def test_the_feeds_of_the_caller_are_left_alone() -> None:
    _, runner = two_parts()
    given = {"x": np.zeros(2, np.float32)}
    runner.run(given)
    assert list(given) == ["x"]


def test_closing_closes_every_part() -> None:
    parts, runner = two_parts()
    runner.close()
    assert all(part.closed for part in parts)


def test_a_value_is_let_go_after_its_last_reader_unless_it_is_an_output() -> None:
    steps = steps_of([Adds("x", "y")] * 3, [("x",), ("x", "y"), ("y", "z")], ("z",))
    assert [step.spent for step in steps] == [(), ("x",), ("y",)]


def test_what_fits_goes_to_the_fast_runner() -> None:
    fast, opened, runner = guarded()
    runner.run(feeds())
    assert len(fast.fed) == 1 and not opened


@pytest.mark.parametrize("other", [feeds(3), feeds(dtype=np.float64), {**feeds(), "more": np.zeros(1)}, {"x": np.ones(2, np.float32)}, {**feeds(), "x": None}])
def test_what_does_not_fit_goes_to_the_whole_model_opened_once(other: dict[str, np.ndarray]) -> None:
    fast, opened, runner = guarded()
    for _ in range(2):
        try:
            runner.run(other)
        except TypeError:
            assert other["x"] is None
    assert not fast.fed and len(opened) == 1 and len(opened[0].fed) == 2


def test_another_number_goes_to_the_whole_model() -> None:
    fast, opened, runner = guarded(3)
    runner.run(feeds(number=3))
    runner.run(feeds(number=4))
    assert len(fast.fed) == 1 and len(opened[0].fed) == 1


def test_closing_closes_both() -> None:
    fast, opened, runner = guarded()
    runner.run(feeds(3))
    runner.close()
    assert fast.closed and opened[0].closed
