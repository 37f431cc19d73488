"""What is quantised is judged on samples that nothing of it was fitted on."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from graphwright.backends.ort.backend import OrtBackend
from graphwright.compiler.calibration.engine import Engine
from graphwright.compiler.calibration.opening import open_calibration
from graphwright.compiler.core.sites import all_sites
from graphwright.compiler.remembered import Remembered
from graphwright.passes.quantize.jury import EVERY, Jury

from .static_models import Feeds, images, kernel, model_of

TEXT = "g (float[N,3,4,4] x) => (float[N,5,4,4] y) { a = Conv(x, k) y = Conv(a, l) }"


def opened(feeds: list[Feeds]) -> tuple[ir.Model, Engine]:
    model = model_of(TEXT, {"k": kernel(4, 3, 1, 1), "l": kernel(5, 4, 1, 1, seed=1)})
    return model, Engine(open_calibration(feeds, model), OrtBackend())


def test_one_sample_in_five_is_kept_to_judge_on() -> None:
    model, engine = opened(images(12, 1, 3, 4, 4))
    fitted, judged = engine.apart(EVERY)
    assert (fitted.samples, judged.samples) == (10, 2)
    (every,), (some,) = (list(one.ranges(model, ["x"]).values()) for one in (engine, fitted))
    assert some.histogram.counts.sum() == every.histogram.counts.sum() * 10 // 12


def test_few_samples_are_fitted_on_and_judged_on() -> None:
    _, engine = opened(images(9, 1, 3, 4, 4))
    assert engine.apart(EVERY) == (engine, engine)


def test_samples_to_judge_on_that_cannot_be_used_are_not_judged_on() -> None:
    feeds = images(12, 1, 3, 4, 4)
    feeds[4]["x"][:] = np.nan
    _, engine = opened(feeds)
    fitted, judged = engine.apart(EVERY)
    assert fitted is judged is engine
    assert len(engine.data.skipped) == 1


def test_what_a_part_leaves_out_the_report_tells() -> None:
    feeds = images(15, 1, 3, 4, 4)
    feeds[9]["x"][:] = np.nan
    model, engine = opened(feeds)
    _, judged = engine.apart(EVERY)
    assert len(list(judged.outputs(model))) == 2
    assert "1 left out: sample 9" in engine.data.describe()


def test_statistics_to_judge_on_stand_beside_those_of_the_same_site() -> None:
    model, engine = opened(images(15, 1, 3, 4, 4))
    fitted, judged = engine.apart(EVERY)
    sites = list(all_sites(model))
    found = list(Jury(model, judged).beside(fitted, model, sites))
    assert [site for site, _, _ in found] == sites
    for (_, known, others), (_, exact) in zip(found, judged.sites(model, sites), strict=True):
        assert others is not None
        np.testing.assert_array_equal(others[0].moment, exact[0].moment)
        assert not np.array_equal(others[0].moment, known[0].moment)


def test_a_loss_is_that_of_the_samples_kept() -> None:
    feeds = images(10, 1, 3, 4, 4)
    for place in (4, 9):
        feeds[place]["x"][:] = 0.0
    model, engine = opened(feeds)
    other = model_of(TEXT, {"k": kernel(4, 3, 1, 1, seed=5), "l": kernel(5, 4, 1, 1, seed=1)})
    fitted, judged = engine.apart(EVERY)
    assert Jury(model, judged).loss(other) == 0.0
    assert Jury(model, fitted).loss(other) > 0.1


def test_parts_of_what_is_remembered_are_remembered() -> None:
    model, engine = opened(images(10, 1, 3, 4, 4))
    remembered = Remembered(engine)
    fitted, judged = remembered.apart(EVERY)
    assert remembered.apart(EVERY) == (fitted, judged)
    assert fitted.ranges(model, ["a"])["a"] is fitted.ranges(model, ["a"])["a"]
    assert judged.samples == 2
    few = Remembered(opened(images(3, 1, 3, 4, 4))[1])
    assert few.apart(EVERY) == (few, few)
