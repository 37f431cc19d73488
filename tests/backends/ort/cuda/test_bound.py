"""Buffers on a device: made once for a set of shapes, fed anew each time, and replayed as a graph where that is right."""

import ml_dtypes
import numpy as np
import onnxruntime as ort
import pytest

from graphwright.backends.ort.cuda import bound as bound_module
from graphwright.backends.ort.cuda.bound import MOST_SHAPES, UNCAPTURED, BoundRunner
from graphwright.backends.ort.session import open_skeleton
from graphwright.backends.ort.skeleton import skeleton_of
from graphwright.compiler.core.errors import InputError, TargetError

from .conftest import OnCpu

DOUBLE = "g (float[N,3] x) => (float[N,3] y) { y = Add(x, x) }"
ROWS = np.float32([[1, 2, 3]])


def opened(model, **options):
    runner = open_skeleton(skeleton_of(model), OnCpu(**options))
    assert isinstance(runner, BoundRunner)
    return runner


class Recording:
    """A session that notes the graph of each run, and can be made to fail or to answer wrong when one is captured."""

    def __init__(self, session, fails="", wrong=False):
        self._session, self._fails, self._wrong = session, fails, wrong
        self.graphs = []

    def __getattr__(self, name):
        return getattr(self._session, name)

    def run_with_iobinding(self, binding, options=None):
        graph = int(options.get_run_config_entry("gpu_graph_id"))
        self.graphs.append(graph)
        if graph != UNCAPTURED and self._fails:
            raise RuntimeError(self._fails)
        self._session.run_with_iobinding(binding, options)
        if graph != UNCAPTURED and self._wrong:
            binding.get_outputs()[0].update_inplace(np.zeros_like(binding.get_outputs()[0].numpy()) - 7)


def recorded(model, fails="", wrong=False):
    runner = opened(model, graph=True)
    runner._session = Recording(runner._session, fails, wrong)
    return runner, runner._session


def test_results_stay_what_they_were_when_the_buffers_are_fed_anew(model):
    runner = opened(model(DOUBLE))
    first = runner.run({"x": ROWS})["y"]
    again = runner.run({"x": ROWS * 10})["y"]
    other = runner.run({"x": np.float32([[1, 1, 1], [2, 2, 2]])})["y"]
    np.testing.assert_array_equal(first, ROWS * 2)
    np.testing.assert_array_equal(again, ROWS * 20)
    np.testing.assert_array_equal(other, [[2, 2, 2], [4, 4, 4]])


def test_feeds_are_left_alone(model):
    runner, mine = opened(model(DOUBLE)), ROWS.copy()
    runner.run({"x": mine})
    runner.run({"x": mine + 5})
    np.testing.assert_array_equal(mine, ROWS)


def test_buffers_are_made_once_for_a_set_of_shapes_and_the_oldest_go(model, monkeypatch):
    made = []
    create = ort.OrtValue.ortvalue_from_shape_and_type
    monkeypatch.setattr(bound_module.ort.OrtValue, "ortvalue_from_shape_and_type", lambda *args: made.append(args[0]) or create(*args))
    runner = opened(model(DOUBLE))
    for rows in (1, 2, 1, 2):
        runner.run({"x": np.zeros((rows, 3), np.float32)})
    assert made == [[1, 3], [2, 3]]
    for rows in range(1, MOST_SHAPES + 4):
        runner.run({"x": np.zeros((rows, 3), np.float32)})
    assert len(runner._kept) == MOST_SHAPES


def test_what_numpy_does_not_know_and_what_is_empty_goes_through_the_host(model):
    wide = opened(model("g (bfloat16[N] x) => (float[N] y) { y = Cast<to=1>(x) }"))
    np.testing.assert_array_equal(wide.run({"x": np.array([1, 2], ml_dtypes.bfloat16)})["y"], [1, 2])
    assert opened(model(DOUBLE)).run({"x": np.zeros((0, 3), np.float32)})["y"].shape == (0, 3)
    texts = opened(model("g (string[N] x) => (string[N] y) { y = Identity(x) }"))
    assert list(texts.run({"x": np.array(["a", "b"])})["y"]) == ["a", "b"]


def test_feeds_that_do_not_fit_are_refused_as_anywhere(model):
    runner = opened(model(DOUBLE))
    with pytest.raises(InputError, match="'x' is missing"):
        runner.run({})
    with pytest.raises(InputError, match="was given the shape"):
        runner.run({"x": np.zeros((2, 5), np.float32)})
    with pytest.raises(InputError, match="cannot run on these inputs"):
        opened(model("g (float[N,M] x) => (float[A,B] y) <int64[2] s = {5,5}> { y = Reshape(x, s) }")).run({"x": np.zeros((2, 3), np.float32)})


def test_a_stopwatch_times_runs_on_buffers_that_are_fed_once(model):
    runner = opened(model(DOUBLE))
    time = runner.stopwatch({"x": ROWS})
    assert time(3) > 0
    np.testing.assert_array_equal(runner.run({"x": ROWS})["y"], ROWS * 2)


def test_a_graph_is_captured_once_for_a_set_of_shapes_and_then_replayed_with_new_numbers(model):
    runner, session = recorded(model(DOUBLE))
    np.testing.assert_array_equal(runner.run({"x": ROWS})["y"], ROWS * 2)
    assert session.graphs == [UNCAPTURED, 1, 1, 1] and runner.uncaptured == ""
    np.testing.assert_array_equal(runner.run({"x": ROWS * 3})["y"], ROWS * 6)
    np.testing.assert_array_equal(runner.run({"x": np.zeros((2, 3), np.float32)})["y"], np.zeros((2, 3)))
    assert session.graphs[4:] == [1, UNCAPTURED, 2, 2, 2]


def test_where_capture_fails_the_kernels_run_as_usual_and_the_reason_is_kept(model):
    runner, session = recorded(model(DOUBLE), fails="[ONNXRuntimeError] : 1 : FAIL : operation not permitted when stream is capturing")
    for factor in (1, 2):
        np.testing.assert_array_equal(runner.run({"x": ROWS * factor})["y"], ROWS * factor * 2)
    assert session.graphs == [UNCAPTURED, 1, UNCAPTURED, UNCAPTURED]
    assert "stream is capturing" in runner.uncaptured
    with pytest.raises(TargetError, match="no CUDA graph is captured: .*stream is capturing"):
        runner.capture({"x": ROWS})


def test_a_graph_that_answers_otherwise_is_not_used(model):
    runner, _ = recorded(model(DOUBLE), wrong=True)
    np.testing.assert_array_equal(runner.run({"x": ROWS})["y"], ROWS * 2)
    assert runner.uncaptured == "replayed, it gives other numbers"


def test_no_more_graphs_are_captured_than_fit(model):
    runner, session = recorded(model(DOUBLE))
    for rows in range(1, MOST_SHAPES + 3):
        runner.run({"x": np.ones((rows, 3), np.float32)})
    assert max(session.graphs) == MOST_SHAPES and session.graphs[-1] == UNCAPTURED


def test_texts_cannot_be_captured(model):
    runner = opened(model("g (string[N] x) => (string[N] y) { y = Identity(x) }"), graph=True)
    with pytest.raises(TargetError, match="not all arrays of numbers"):
        runner.capture({"x": np.array(["a"])})


def test_a_closed_runner_holds_no_buffers(model):
    runner = opened(model(DOUBLE))
    runner.run({"x": ROWS})
    runner.close()
    assert not runner._kept
    with pytest.raises(RuntimeError, match="closed"):
        runner.run({"x": ROWS})


def test_without_a_graph_runs_have_no_id(model):
    with pytest.raises(RuntimeError, match="gpu_graph_id"):
        opened(model(DOUBLE))._run_options(UNCAPTURED).get_run_config_entry("gpu_graph_id")
