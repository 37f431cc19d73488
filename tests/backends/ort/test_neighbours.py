"""What others use of the processors is what all use less what we use."""

from __future__ import annotations

from pathlib import Path

import pytest

from graphwright.backends.ort.neighbours import Neighbours, busy_seconds, processors

STAT = """cpu  400 0 100 1000 50 0 0 0 0 0
cpu{first} 200 10 40 500 25 3 2 5 100 100
cpu99999 900 900 900 900 900 0 0 0 0 0
intr 12345
"""


@pytest.mark.parametrize(("busy", "own", "share"), [(10.0, 10.0, 0.0), (15.0, 10.0, 0.5), (30.0, 5.0, 1.0), (4.0, 5.0, 0.0)])
def test_the_share_of_others_is_of_all_processors(busy: float, own: float, share: float) -> None:
    wall = 10.0 / len(processors())
    ticks, clock, process = iter((100.0, 100.0 + busy)), iter((50.0, 50.0 + wall)), iter((7.0, 7.0 + own))
    assert Neighbours(lambda: next(ticks), lambda: next(clock), lambda: next(process)).share() == pytest.approx(share)


def test_a_short_race_is_counted_for_longer_since_busy_time_comes_in_steps() -> None:
    count = len(processors())
    ticks, clock, process = iter((100.0, 100.01, 100.01)), iter((50.0, 50.004, 50.25)), iter((7.0, 7.004, 7.004))
    slept: list[float] = []
    found = Neighbours(lambda: next(ticks), lambda: next(clock), lambda: next(process), slept.append).share()
    assert slept == [pytest.approx(0.246)]
    assert found == pytest.approx(0.006 / (0.25 * count), rel=1e-3)


def test_where_nobody_counts_there_are_no_others() -> None:
    assert Neighbours(lambda: None).share() == 0.0


def test_only_processors_that_may_be_used_count_and_idle_time_and_guests_do_not(tmp_path: Path) -> None:
    (tmp_path / "stat").write_text(STAT.format(first=min(processors())))
    assert busy_seconds(tmp_path / "stat") == pytest.approx((200 + 10 + 40 + 3 + 2 + 5) / 100)
    assert busy_seconds(tmp_path / "none") is None
