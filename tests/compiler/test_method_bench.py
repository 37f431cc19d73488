"""Methods are judged on data that they were not fitted on, at equal bits, and against what they refine."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from graphwright.compiler.core.errors import ModelError, UsageError
from graphwright.compiler.core.statistics import SiteStatistics
from graphwright.compiler.method_bench import SiteBench, benchable_sites
from graphwright.compiler.method_candidates import JointCandidate, SiteData, WeightCandidate
from graphwright.compiler.method_run import MethodRequest, bench_methods
from graphwright.compiler.method_verdict import interval, student, sum_up, verdicts
from graphwright.passes.quantize.activation import ActivationGrid
from graphwright.passes.quantize.coded import Affine, Sum
from graphwright.passes.quantize.grid import Grid
from graphwright.passes.quantize.joint import Plain
from graphwright.passes.quantize.method import Method
from graphwright.passes.quantize.rtn import Rtn

MLP = """
<ir_version: 10, opset_import: ["" : 21]>
mlp (float[n, 16] x) => (float[n, 4] y)
{ a = MatMul(x, v) b = Relu(a) y = Gemm(b, w, c) }
"""


@dataclass(frozen=True)
class Worse(Method):
    """rtn with every code one too high."""

    name: ClassVar[str] = "worse"
    refines: ClassVar[str] = "rtn"

    def quantize(self, weight: np.ndarray, statistics: SiteStatistics | None, grid: Grid) -> Affine:
        found = Rtn().quantize(weight, statistics, grid)
        return Affine(found.codes + 1, found.scales, found.zeros, found.block, found.bits)


@dataclass(frozen=True)
class Twice(Method):
    """Its error rounded again: twice the bits."""

    name: ClassVar[str] = "twice"
    refines: ClassVar[str] = "rtn"

    def quantize(self, weight: np.ndarray, statistics: SiteStatistics | None, grid: Grid) -> Sum:
        first = Rtn().quantize(weight, statistics, grid)
        return Sum((first, Rtn().quantize(weight - first.matrix(), statistics, Grid(2))))


@dataclass(frozen=True)
class Narrow(Method):
    """Two bits, whatever the grid says."""

    name: ClassVar[str] = "narrow"
    refines: ClassVar[str] = "rtn"

    def quantize(self, weight: np.ndarray, statistics: SiteStatistics | None, grid: Grid) -> Affine:
        return Rtn().quantize(weight, statistics, Grid(2))


@dataclass(frozen=True)
class Blocked(Method):
    """rtn with 16 rows a scale."""

    name: ClassVar[str] = "blocked"
    refines: ClassVar[str] = "rtn"

    def quantize(self, weight: np.ndarray, statistics: SiteStatistics | None, grid: Grid) -> Affine:
        return Rtn().quantize(weight, statistics, Grid(grid.bits, block=16))


@dataclass(frozen=True)
class Never(Method):
    """Takes nothing."""

    name: ClassVar[str] = "never"
    refines: ClassVar[str] = "rtn"

    def quantize(self, weight: np.ndarray, statistics: SiteStatistics | None, grid: Grid) -> Affine:
        raise ModelError("it is Tuesday")


def known(rows: np.ndarray) -> SiteStatistics:
    wide = rows.astype(np.float64)
    size, low, high = np.abs(wide), wide.min(axis=0), wide.max(axis=0)
    return SiteStatistics(wide.T @ wide / len(rows), low, high, size.max(axis=0), size.mean(axis=0), wide.mean(axis=0), rows, len(rows))


@pytest.fixture
def site() -> SiteData:
    random = np.random.default_rng(0)
    rows = random.standard_normal((2, 300, 24)).astype(np.float32) * np.exp(random.standard_normal(24)).astype(np.float32)
    return SiteData("site", random.standard_normal((1, 24, 8)).astype(np.float32), [known(rows[0])], [known(rows[1])])


def test_the_error_is_that_of_the_output_on_unseen_rows(site: SiteData) -> None:
    trial = SiteBench(site).trial(WeightCandidate(Rtn), Grid(3))
    rows, weight = site.unseen[0].rows.astype(np.float64), site.weights[0].astype(np.float64)
    rounded = Rtn().quantize(site.weights[0], None, Grid(3)).matrix()
    expected = np.linalg.norm(rows @ (rounded - weight)) / np.linalg.norm(rows @ weight)
    assert trial.error == pytest.approx(expected, rel=1e-9)
    assert trial.stored == pytest.approx(3 + 32 / 24)
    assert trial.reference is None and trial.ratio is None


def test_groups_count_together(site: SiteData) -> None:
    double = SiteData("pair", np.concatenate([site.weights, site.weights]), [*site.known, *site.known], [*site.unseen, *site.unseen])
    one, two = (SiteBench(data).trial(WeightCandidate(Rtn), Grid(4)) for data in (site, double))
    assert two.error == pytest.approx(one.error, rel=1e-12)
    assert two.stored == one.stored and two.parameters == 2 * one.parameters


def test_a_method_that_is_worse_is_told_so(site: SiteData) -> None:
    bench = SiteBench(site)
    trials = [bench.trial(WeightCandidate(kind), Grid(bits)) for bits in (8, 4) for kind in (Rtn, Worse)]
    lines = sum_up(trials)
    assert [(line.method, line.beats) for line in lines] == [("rtn", None), ("worse", False)] * 2
    assert verdicts(lines)[0].loses == ("W8", "W4") and not verdicts(lines)[0].beats


def test_storing_more_is_no_victory(site: SiteData) -> None:
    bench = SiteBench(site)
    twice, plain = bench.trial(WeightCandidate(Twice), Grid(4)), bench.trial(WeightCandidate(Rtn), Grid(4))
    wider = [bench.trial(WeightCandidate(Rtn), Grid(bits)) for bits in (7, 8)]
    assert wider[0].stored < twice.stored < wider[1].stored
    assert twice.error < plain.error and twice.plain == plain.error
    assert twice.reference == wider[0].error


def test_storing_less_is_no_defeat(site: SiteData) -> None:
    bench = SiteBench(site)
    narrow, two = bench.trial(WeightCandidate(Narrow), Grid(8)), bench.trial(WeightCandidate(Rtn), Grid(2))
    assert narrow.stored == two.stored and narrow.error == two.error
    assert narrow.reference == two.error and narrow.ratio == 1.0 and narrow.same_grid > 1


def test_the_same_storage_may_go_into_finer_blocks(site: SiteData) -> None:
    """16 rows a scale take 2 scales a column of 24."""
    bench = SiteBench(site)
    found = bench.trial(WeightCandidate(Blocked), Grid(4))
    finer = bench.trial(WeightCandidate(Rtn), Grid(4, block=16))
    assert found.stored == finer.stored and found.reference == min(finer.error, bench.trial(WeightCandidate(Rtn), Grid(5)).error)


def test_the_interval_is_that_of_students_t() -> None:
    from scipy import stats

    for degrees in (1, 2, 5, 10, 11, 17, 40, 200):
        assert student(degrees) == pytest.approx(stats.t.ppf(0.975, degrees), rel=1e-3)
    ratios = [0.9, 1.02, 0.97, 0.88, 0.95]
    logs = np.log(ratios)
    expected = np.exp(stats.t.interval(0.95, 4, logs.mean(), stats.sem(logs)))
    assert interval(ratios) == pytest.approx(tuple(expected), rel=1e-3)


def test_a_mean_below_one_that_may_be_chance_is_no_victory(site: SiteData) -> None:
    trial = SiteBench(site).trial(WeightCandidate(Worse), Grid(4))
    trials = [replace(trial, error=ratio, reference=1.0) for ratio in (0.8, 1.15, 0.9, 1.1)]
    (line,) = sum_up(trials)
    assert line.ratio < 1 < line.high and line.beats is False
    (line,) = sum_up([replace(trial, error=ratio, reference=1.0) for ratio in (0.8, 0.85, 0.9, 0.82)])
    assert line.beats is True


def test_a_refusal_is_kept_with_its_reason(site: SiteData) -> None:
    trial = SiteBench(site).trial(WeightCandidate(Never), Grid(4))
    assert trial.refused == "it is Tuesday" and math.isnan(trial.error) and trial.ratio is None
    (line,) = sum_up([trial])
    assert line.sites == 0 and line.beats is None and line.refused == ("it is Tuesday",)


def test_rounded_inputs_cost_more_than_rounded_weights_alone(site: SiteData) -> None:
    bench = SiteBench(site)
    alone = bench.trial(WeightCandidate(Rtn), Grid(8))
    errors = [bench.trial(JointCandidate(Plain, ActivationGrid(bits)), Grid(8)).error for bits in (8, 4)]
    assert alone.error < errors[0] < errors[1]


def model() -> ir.Model:
    proto = onnx.parser.parse_model(MLP)
    random = np.random.default_rng(3)
    weights = {"v": (16, 12), "w": (12, 4), "c": (4,)}
    proto.graph.initializer.extend(onnx.numpy_helper.from_array(random.standard_normal(shape).astype(np.float32), name) for name, shape in weights.items())
    return ir.from_proto(proto)


def samples(count: int) -> list[dict[str, np.ndarray]]:
    random = np.random.default_rng(4)
    return [{"x": random.standard_normal((32, 16)).astype(np.float32)} for _ in range(count)]


def test_a_model_is_benched_from_its_data() -> None:
    request = MethodRequest(samples(8), names=("rtn", "gptq", "smoothquant"), bits=(4, 3), inputs=(8,))
    table = bench_methods(model(), request)
    assert {(line.method, line.width) for line in table.lines} == {
        (name, width) for name, widths in (("rtn", ("W4", "W3", "W4A8", "W3A8")), ("gptq", ("W4", "W3")), ("smoothquant", ("W4A8", "W3A8"))) for width in widths
    }
    assert all(line.sites == 2 for line in table.lines)
    assert all(line.ratio < 1 and line.won == 2 for line in table.lines if line.method == "gptq")
    assert "6 samples" in table.data and "judged on 2 others" in table.data


def test_the_same_request_gives_the_same_figures() -> None:
    tables = [bench_methods(model(), MethodRequest(samples(4), names=("rtn", "gptq"), bits=(3,))) for _ in range(2)]
    assert [trial.error for trial in tables[0].trials] == [trial.error for trial in tables[1].trials]


def test_what_cannot_be_benched_is_said() -> None:
    with pytest.raises(UsageError, match="no quantisation method 'magic'"):
        bench_methods(model(), MethodRequest(samples(4), names=("magic",)))
    with pytest.raises(UsageError, match="at least 2"):
        bench_methods(model(), MethodRequest(samples(1)))
    with pytest.raises(UsageError, match="round inputs too"):
        bench_methods(model(), MethodRequest(samples(4), names=("smoothquant",)))
    bare = ir.from_proto(onnx.parser.parse_model('<ir_version: 10, opset_import: ["" : 21]> g (float[n, 16] x) => (float[n, 16] y) { y = Relu(x) }'))
    with pytest.raises(UsageError, match="no site"):
        bench_methods(bare, MethodRequest(samples(4)))


LAYERS = 6


def layered(layers: int) -> ir.Model:
    """Layers of three kinds of sites each, ``kind_layer``."""
    lines, data = [], "x"
    for layer in range(layers):
        for kind in ("a", "b", "c"):
            lines.append(f"{kind}_{layer} = MatMul({data}, w)")
            data = f"{kind}_{layer}"
    text = '<ir_version: 10, opset_import: ["" : 21]>\ng (float[n, 2] x) => (float[n, 2] y)\n<float[2, 2] w = {1.0, 2.0, 3.0, 4.0}>'
    return ir.from_onnx_text(f"{text} {{ {' '.join(lines)} y = Identity({data}) }}")


def test_sites_that_are_tried_are_of_several_kinds_where_a_step_would_keep_pace_with_the_layers() -> None:
    names = [site.name for site in benchable_sites(layered(LAYERS), LAYERS)]
    assert len({name.split("_")[0] for name in names}) > 1
    assert [name.split("_")[1] for name in names] == [str(layer) for layer in range(LAYERS)]


@pytest.mark.parametrize("most", [1, 5, 10, 17, 18, 40])
def test_no_site_is_tried_twice_and_as_many_are_as_were_asked_for(most: int) -> None:
    model = layered(LAYERS)
    names = [site.name for site in benchable_sites(model, most)]
    every = [site.name for site in benchable_sites(model)]
    assert names == [name for name in every if name in names]
    assert len(names) == min(most, len(every))
