"""Timing, on clocks that only move when the test says so."""

import gc
import math
import random

import pytest

from graphwright.compiler.core.timing import compare_runs, compare_timed, median_interval, rank_runs
from graphwright.compiler.timing import compare_runners


class Machine:
    """A clock, and runs that move it on by the seconds they are given; writes down who ran."""

    def __init__(self):
        self.now = 0.0
        self.ran = []

    def clock(self):
        return self.now

    def run(self, name, seconds):
        def once():
            self.ran.append(name)
            self.now += seconds() if callable(seconds) else seconds

        return once


def test_the_runs_take_turns_a_b_b_a():
    machine = Machine()
    compare_runs(machine.run("a", 0.01), machine.run("b", 0.02), min_rounds=6, max_rounds=6, clock=machine.clock)
    warm_up, rounds = machine.ran[:4], machine.ran[4:]
    assert warm_up == ["a", "b", "a", "b"]
    assert rounds == ["a", "b", "b", "a"] * 6


def test_the_medians_are_seconds_a_run_and_the_ratio_is_a_over_b():
    machine = Machine()
    result = compare_runs(machine.run("a", 0.01), machine.run("b", 0.02), clock=machine.clock)
    assert result.median_a == pytest.approx(0.01)
    assert result.median_b == pytest.approx(0.02)
    assert result.ratio == pytest.approx(0.5)
    assert result.a_is_faster
    assert not result.b_is_faster


def test_a_clear_difference_stops_at_the_first_look():
    machine = Machine()
    result = compare_runs(machine.run("a", 0.01), machine.run("b", 0.02), budget_s=1e9, min_rounds=12, clock=machine.clock)
    assert result.rounds == 12


def test_equal_runs_with_noise_are_not_told_apart():
    for seed in range(20):
        noise = random.Random(seed)
        machine = Machine()
        slow = lambda noise=noise: 0.01 * (1 + 0.3 * noise.random())  # noqa: E731
        result = compare_runs(machine.run("a", slow), machine.run("b", slow), budget_s=2.0, clock=machine.clock)
        assert result.low <= 1.05
        assert result.high >= 0.95
    assert not (result.a_is_faster and result.b_is_faster)


def test_stopping_early_rarely_finds_a_difference_that_is_not_there():
    found = 0
    for seed in range(100):
        noise = random.Random(seed)
        machine = Machine()
        slow = lambda noise=noise: 0.01 * (1 + 0.3 * noise.random())  # noqa: E731
        result = compare_runs(machine.run("a", slow), machine.run("b", slow), budget_s=8.0, clock=machine.clock)
        found += result.a_is_faster or result.b_is_faster
    assert found <= 10


def test_a_drifting_machine_treats_both_alike():
    machine = Machine()
    slow = lambda: 0.01 * (1 + machine.now)  # noqa: E731
    result = compare_runs(machine.run("a", slow), machine.run("b", slow), budget_s=10.0, enough=lambda _: False, clock=machine.clock)
    assert result.ratio == pytest.approx(1.0, abs=1e-3)


def test_stray_measurements_do_not_move_the_result():
    machine = Machine()
    noise = random.Random(3)
    with_strays = lambda: 0.01 if noise.random() > 0.1 else 1.0  # noqa: E731
    result = compare_runs(machine.run("a", with_strays), machine.run("b", 0.02), min_rounds=30, enough=lambda _: False, clock=machine.clock)
    assert result.ratio == pytest.approx(0.5)
    assert result.high < 0.51


def test_the_budget_ends_the_rounds_but_never_before_the_least_of_them():
    machine = Machine()
    spent = compare_runs(machine.run("a", 1.0), machine.run("b", 1.0), budget_s=100.0, enough=lambda _: False, clock=machine.clock)
    assert 20 <= spent.rounds <= 26
    least = compare_runs(machine.run("a", 1.0), machine.run("b", 1.0), budget_s=12.0, min_rounds=7, clock=machine.clock)
    assert least.rounds == 7
    slow = compare_runs(machine.run("a", 1.0), machine.run("b", 1.0), budget_s=1.0, min_rounds=10, clock=machine.clock)
    assert slow.rounds == 6


def test_fewer_than_six_rounds_are_never_made():
    machine = Machine()
    result = compare_runs(machine.run("a", 1.0), machine.run("b", 2.0), budget_s=0.0, min_rounds=1, clock=machine.clock)
    assert result.rounds == 6
    assert (result.low, result.high) == (0.5, 0.5)


def test_very_short_runs_are_repeated_inside_one_measurement():
    counts = []

    def timed(calls):
        counts.append(calls)
        return calls * 2**-20

    result = compare_timed(timed, timed, min_rounds=6, max_rounds=6)
    assert set(counts) == {1, 210}
    assert result.median_a == 2**-20


def test_a_clock_too_coarse_for_the_run_gives_the_ratio_one():
    result = compare_timed(lambda calls: 0.0, lambda calls: 0.0, max_rounds=6)
    assert result.ratio == 1.0


def test_the_collector_rests_while_timing_and_is_put_back():
    seen = []
    compare_runs(lambda: seen.append(gc.isenabled()), lambda: None, max_rounds=6)
    assert set(seen) == {False}
    assert gc.isenabled()


def test_the_collector_is_put_back_when_a_run_fails():
    def broken():
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        compare_runs(broken, broken)
    assert gc.isenabled()


@pytest.mark.parametrize(("count", "left_out"), [(6, 0), (9, 1), (12, 2), (20, 5)])
def test_the_interval_is_the_sign_tests(count, left_out):
    # The textbook's order statistics for the median at 95 %.
    assert median_interval(range(count), 0.95) == (left_out, count - 1 - left_out)


def test_too_few_values_bound_nothing():
    assert median_interval([1.0] * 5, 0.95) == (0.0, math.inf)


def test_the_interval_covers_the_median_as_often_as_it_says():
    hits = 0
    for seed in range(400):
        noise = random.Random(seed)
        low, high = median_interval([noise.expovariate(1.0) for _ in range(25)], 0.95)
        hits += low <= math.log(2) <= high
    assert hits >= 0.93 * 400


def test_several_runs_are_ranked_against_the_first():
    machine = Machine()
    runs = [machine.run("a", 0.02), machine.run("b", 0.01), machine.run("c", 0.04)]
    ranking = rank_runs(runs, min_rounds=6, max_rounds=6, clock=machine.clock)
    assert [one.index for one in ranking] == [1, 0, 2]
    assert [one.ratio for one in ranking] == pytest.approx([0.5, 1.0, 2.0])
    assert machine.ran[6:12] == ["a", "b", "c", "c", "b", "a"]


def test_ties_keep_the_order_given():
    machine = Machine()
    ranking = rank_runs([machine.run("a", 0.5), machine.run("b", 0.5)], max_rounds=6, clock=machine.clock)
    assert [one.index for one in ranking] == [0, 1]
    assert rank_runs([]) == ()


class Plain:
    inputs = outputs = ()

    def __init__(self):
        self.fed = []

    def run(self, feeds):
        self.fed.append(feeds["x"])
        return {}

    def close(self):
        pass


class OwnWatch(Plain):
    def stopwatch(self, feeds):
        return lambda calls: calls * feeds["x"]


def test_runners_are_compared_over_all_samples():
    plain = Plain()
    compare_runners(plain, plain, [{"x": 1}, {"x": 2}], max_rounds=6)
    assert set(plain.fed) == {1, 2}


def test_a_runner_that_times_itself_is_believed():
    result = compare_runners(OwnWatch(), OwnWatch(), [{"x": 1.0}, {"x": 2.0}], max_rounds=6)
    assert result.median_a == pytest.approx(3.0)
    assert result.ratio == 1.0
