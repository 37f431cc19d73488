"""Options are only chosen when they are faster beyond doubt. No test here looks at a real clock."""

import numpy as np
import pytest

from graphwright.backends.ort.neighbours import Neighbours
from graphwright.backends.ort.options import DEFAULT, Options
from graphwright.backends.ort.reference import open_model
from graphwright.backends.ort.tune import choose_options, thread_counts
from graphwright.compiler.core.errors import TargetError
from graphwright.compiler.core.timing import compare_timed

SAMPLES = [{"x": np.zeros(1)}]


class Bench:
    """Runners whose speed is a function of their options."""

    def __init__(self, seconds):
        self.seconds = seconds
        self.open = 0
        self.most = 0

    def open_with(self, options):
        self.open += 1
        self.most = max(self.most, self.open)
        return Timed(self, options)

    def choose(self, cores=4, **more):
        said = []
        usual = {"race": race, "operators": ("LayerNormalization",), "neighbours": beside(0.0)}
        best, trials = choose_options(self.open_with, SAMPLES, said.append, cores=cores, **{**usual, **more})
        assert len(said) == len(trials)
        assert self.open == 0
        return best, trials


class Timed:
    def __init__(self, bench, options):
        self.bench, self.options = bench, options

    def stopwatch(self, feeds):
        return lambda calls: calls * self.bench.seconds(self.options)

    def close(self):
        self.bench.open -= 1

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def beside(busy):
    """Others that use so much of the processors in every race."""
    return lambda: type("Busy", (Neighbours,), {"share": lambda self: busy})()


def race(candidate, best):
    return compare_timed(candidate, best, min_rounds=8, max_rounds=8)


def test_when_nothing_is_faster_the_defaults_stay():
    best, trials = Bench(lambda options: 1.0).choose()
    assert best == DEFAULT
    assert [trial.to_dict()["changed"] for trial in trials] == [
        {"without": ["SkipLayerNormFusion"]},
        {"level": "extended"},
        {"level": "basic"},
        {"threads": 1},
        {"threads": 2},
        {"arena": False},
        {"prepacking": False},
    ]
    assert not any(trial.chosen for trial in trials)


def test_the_fastest_of_each_question_is_carried_on_to_the_next():
    def seconds(options):
        return (0.7 if options.threads == 2 else 1.0) * (0.8 if options.level == "extended" else 1.0) * (0.9 if not options.prepacking else 1.0)

    best, trials = Bench(seconds).choose()
    assert best == Options(level="extended", threads=2, prepacking=False)
    assert [trial.chosen for trial in trials] == [False, True, False, False, True, False, True]
    assert trials[-1].result.ratio == pytest.approx(0.9)
    assert trials[-1].against == Options(level="extended", threads=2)


def test_a_gain_too_small_to_matter_is_no_reason_to_leave_the_defaults():
    assert Bench(lambda options: 0.99 if options.threads == 1 else 1.0).choose()[0] == DEFAULT


@pytest.mark.parametrize(("time_taken", "threads"), [(0.94, 0), (0.85, 1)])
def test_fewer_threads_must_gain_a_tenth(time_taken: float, threads: int) -> None:
    best, _ = Bench(lambda options: time_taken if options.threads == 1 else 1.0).choose()
    assert best.threads == threads


def test_fewer_threads_that_win_beside_a_busy_process_are_not_chosen_and_the_report_says_so() -> None:
    bench = Bench(lambda options: 0.5 if options.threads else 0.9 if options.level == "extended" else 1.0)
    best, trials = bench.choose(neighbours=beside(0.4))
    assert best == Options(level="extended")
    assert {trial.to_dict()["failure"] for trial in trials if trial.options.threads} == {
        "it was faster while others used 40% of the processors, which says nothing of its threads"
    }
    assert bench.choose(neighbours=beside(0.05))[0].threads == 1


def test_a_gain_that_may_be_noise_is_none():
    noise = np.random.default_rng(0)
    best, _ = Bench(lambda options: (0.97 if options.threads == 1 else 1.0) * (1 + noise.random())).choose()
    assert best == DEFAULT


def test_an_optimizer_that_slows_the_model_is_left_out_and_stays_out():
    best, _ = Bench(lambda options: 0.8 if options.without else 1.0).choose()
    assert best == Options(without=("SkipLayerNormFusion",))


def test_a_candidate_that_cannot_be_opened_is_reported_and_passed_over():
    class Fragile(Bench):
        def open_with(self, options):
            if options.level == "basic":
                raise TargetError("no kernel")
            return super().open_with(options)

    best, trials = Fragile(lambda options: 1.0).choose()
    assert best == DEFAULT
    assert [trial.to_dict() for trial in trials if trial.failure] == [{"changed": {"level": "basic"}, "chosen": False, "failure": "no kernel"}]


def test_a_winner_must_win_again_with_both_opened_anew():
    opened = []

    def luck(options):
        """One thread is fast in the first session only."""
        return 0.5 if options.threads == 1 and opened.count(options) == 1 else 1.0

    class Lucky(Bench):
        def open_with(self, options):
            opened.append(options)
            return super().open_with(options)

    best, trials = Lucky(luck).choose()
    assert best == DEFAULT
    assert [trial.options.threads for trial in trials].count(1) == 1
    assert opened.count(Options(threads=1)) == 2
    assert not any(trial.chosen for trial in trials)


def test_what_only_concerns_other_operators_is_not_tried():
    _, trials = Bench(lambda options: 1.0).choose(operators=("Conv",))
    assert not any(trial.options.without for trial in trials)


def test_two_sessions_are_open_at_most():
    bench = Bench(lambda options: 0.5 ** (options.threads == 2) * 0.5 ** (options.level != "all"))
    bench.choose()
    assert bench.most == 2


def test_no_race_starts_after_the_budget():
    times = iter([0.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0])
    _, trials = Bench(lambda options: 1.0).choose(budget_s=2.5, clock=lambda: next(times))
    assert len(trials) == 3


def test_without_samples_nothing_is_opened():
    bench = Bench(lambda options: 1.0)
    assert choose_options(bench.open_with, [], print) == (DEFAULT, ())
    assert bench.most == 0


def test_thread_counts_double_below_the_cores():
    assert [thread_counts(cores) for cores in (1, 2, 4, 6, 8)] == [[], [1], [1, 2], [1, 2, 4], [1, 2, 4]]


def test_a_real_model_is_tuned_and_every_option_runs(model):
    made = model("g (float[N,8] x, float[8,8] w) => (float[N,8] y) { y = MatMul(x, w) }", w=np.eye(8, dtype=np.float32))
    sample = {"x": np.ones((2, 8), np.float32)}
    best, trials = choose_options(lambda options: open_model(made, options), [sample], lambda text: None, cores=2, race=race)
    assert len(trials) == 5
    assert not any(trial.failure for trial in trials)
    np.testing.assert_array_equal(open_model(made, best).run(sample)["y"], sample["x"])
