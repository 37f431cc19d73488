"""Every way of writing a coded weight into a graph computes with the matrix that the codes stand for."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir
import pytest

from graphwright.compiler.core.graph import bind_opsets, clone_model
from graphwright.compiler.core.passes import Context, parse_pipeline
from graphwright.compiler.core.reasons import Skip
from graphwright.compiler.core.shapes import settle_shapes
from graphwright.compiler.core.sites import all_sites
from graphwright.compiler.core.statistics import SiteStatistics
from graphwright.compiler.core.target import Target
from graphwright.compiler.core.wellformed import check
from graphwright.compiler.targets import find_target
from graphwright.passes.quantize.bcq import Bcq
from graphwright.passes.quantize.coded import Affine, Binaries, Codebook, Coded, Dense, LowRank, Rows, Sparse, Sum, Turned
from graphwright.passes.quantize.equivalent import Rescaled
from graphwright.passes.quantize.forms.bnb4 import NF4, bnb4_way
from graphwright.passes.quantize.forms.choice import ways_of
from graphwright.passes.quantize.forms.turned import kronecker_factors
from graphwright.passes.quantize.fp8 import Fp8
from graphwright.passes.quantize.grid import Grid
from graphwright.passes.quantize.lut_gemm import LutGemm
from graphwright.passes.quantize.method import Method
from graphwright.passes.quantize.nf4 import Nf4
from graphwright.passes.quantize.orthogonal import random_hadamard, random_orthogonal
from graphwright.passes.quantize.quip import Quip
from graphwright.passes.quantize.rtn import Rtn
from graphwright.passes.quantize.surgery import Surgery, Way, place_of

ROWS, COLUMNS = 64, 24
CLEAN = "fold-constants,eliminate-common-subexpressions,eliminate-dead-code,deduplicate-initialisers"
PORTABLE, OURS = find_target("onnx"), find_target("ort-cpu")


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def halved(*shape: int, seed: int = 0) -> np.ndarray:
    return noise(*shape, seed=seed).astype(np.float16).astype(np.float32)


def affine(bits: int = 4, block: int = 16, symmetric: bool = True, rows: int = ROWS, columns: int = COLUMNS) -> Affine:
    return Rtn().quantize(noise(rows, columns), None, Grid(bits, symmetric, block))


def codebook(bits: int, per_column: bool = False, scaled: bool = True) -> Codebook:
    rng = np.random.default_rng(1)
    book = noise(2**bits, COLUMNS, seed=2) if per_column else noise(2**bits, seed=2)
    codes = rng.integers(0, 2**bits, (ROWS, COLUMNS)).astype(np.uint8)
    return Codebook(codes, book, bits, np.abs(noise(ROWS // 16, COLUMNS, seed=3)) if scaled else None, 16)


def sparse(seed: int = 4) -> Sparse:
    places = np.sort(np.random.default_rng(seed).choice(ROWS * COLUMNS, 20, replace=False)).astype(np.int64)
    return Sparse((ROWS, COLUMNS), places, halved(20, seed=seed))


def rows() -> Rows:
    return Rows((ROWS, COLUMNS), np.array([3, 60]), halved(2, COLUMNS, seed=6))


def signs_under_a_mask() -> Binaries:
    """As stbllm leaves them: two matrices, some signs dropped, rows scaled."""
    rng = np.random.default_rng(11)
    signs = rng.integers(-1, 2, (2, ROWS, COLUMNS)).astype(np.int8)
    return Binaries(signs, halved(2, ROWS // 16, COLUMNS, seed=12), 16, offset=halved(ROWS // 16, COLUMNS, seed=13), left=halved(ROWS, seed=14))


def turns() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(15)
    return random_hadamard(ROWS, rng).T, random_hadamard(COLUMNS, rng)


def turned(grid: Grid) -> Turned:
    return Quip(rescale="always").quantize(noise(ROWS, COLUMNS), statistics(noise(200, ROWS, seed=16)), grid)


def statistics(rows: np.ndarray) -> SiteStatistics:
    wide = rows.astype(np.float64)
    size, count = np.abs(wide), len(rows)
    return SiteStatistics(wide.T @ wide / count, wide.min(axis=0), wide.max(axis=0), size.max(axis=0), size.mean(axis=0), wide.mean(axis=0), rows, count)


CODED: dict[str, Coded] = {
    "steps": affine(),
    "steps with zero points": affine(symmetric=False),
    "bytes": affine(8, 0),
    "codebook": codebook(4),
    "codebook of 3 bits": codebook(3),
    "codebook of bytes": codebook(8, scaled=False),
    "codebook for each column": codebook(3, per_column=True, scaled=False),
    "nf4": Nf4().quantize(noise(ROWS, COLUMNS), None, Grid(4, True, 16)),
    "nf4 of twice quantised scales": Nf4(twice=True).quantize(noise(ROWS, COLUMNS), None, Grid(4, True, 16)),
    "floats of 8 bits": Fp8().quantize(noise(ROWS, COLUMNS), None, Grid(8, True, 16)),
    "other floats of 8 bits": Fp8("e5m2").quantize(noise(ROWS, COLUMNS), None, Grid(8, True, 0)),
    "floats of 6 bits": Fp8("e3m2").quantize(noise(ROWS, COLUMNS), None, Grid(8, True, 16)),
    "low rank": LowRank(halved(ROWS, 3), halved(3, COLUMNS, seed=1)),
    "sparse": sparse(),
    "rows": rows(),
    "steps and low rank": Sum((affine(), LowRank(halved(ROWS, 3), halved(3, COLUMNS, seed=1)))),
    "steps twice": Sum((affine(), affine(8, 0))),
    "steps and outliers": Sum((affine(), sparse())),
    "outliers and codebook": Sum((sparse(), codebook(3))),
    "steps and rows": Sum((affine(), rows())),
    "signs": Bcq().quantize(noise(ROWS, COLUMNS), None, Grid(3, True, 16)),
    "signs and an offset": LutGemm().quantize(noise(ROWS, COLUMNS), None, Grid(3, True, 16)),
    "signs under a mask": signs_under_a_mask(),
    "turned steps about zero": turned(Grid(3)),
    "turned steps with zero points": Turned(affine(symmetric=False), *turns(), seed_bits=64, stretch=np.exp(noise(ROWS, seed=8)).astype(np.float32)),
    "rescaled": Rescaled(affine(), np.exp(noise(ROWS, seed=5)).astype(np.float64)),
}


def sited(draw: Callable, flipped: bool = False) -> ir.Model:
    weight, bias = noise(ROWS, COLUMNS), noise(COLUMNS, seed=9)
    if flipped:
        text = f"g (float[N,{ROWS}] x) => (float[N,{COLUMNS}] y) {{ y = Gemm<transB=1>(x, w, b) }}"
        return draw(text, w=np.ascontiguousarray(weight.T), b=bias)
    return draw(f"g (float[N,{ROWS}] x) => (float[N,{COLUMNS}] y) {{ p = MatMul(x, w) y = Add(p, b) }}", w=weight, b=bias)


def written(model: ir.Model, way: Way, target: Target) -> tuple[ir.Model, Context]:
    context = Context(target)
    surgery = Surgery(model, context, "write")
    (site,) = all_sites(model)
    assert surgery.replace(place_of(site), way) is None
    surgery.finish()
    for step in parse_pipeline(CLEAN):
        step.run(model, context)
    check(model)
    return model, context


def settle(model: ir.Model) -> None:
    bind_opsets(model)
    settle_shapes(model)


def ways_for(model: ir.Model, coded: Coded, target: Target) -> list[Way]:
    settle(model)
    (site,) = all_sites(model)
    ways, _ = ways_of(place_of(site), [coded], "small", target, 0)
    return ways


@pytest.mark.parametrize("flipped", [False, True], ids=["MatMul", "Gemm"])
@pytest.mark.parametrize("target", [OURS, PORTABLE], ids=["ours", "portable"])
@pytest.mark.parametrize("name", CODED)
def test_each_way_computes_with_the_matrix_that_the_codes_stand_for(name: str, target: Target, flipped: bool, draw: Callable, run_twice: Callable) -> None:
    coded = CODED[name]
    data = noise(5, ROWS, seed=7)
    expected = data @ coded.matrix() + noise(COLUMNS, seed=9)
    count = len(ways_for(sited(draw, flipped), coded, target))
    assert count
    for index in range(count):
        model = sited(draw, flipped)
        small, context = written(model, ways_for(model, coded, target)[index], target)
        assert target is OURS or {node.domain for node in small.graph} == {""}
        for found in run_twice(small, {"x": data}):
            np.testing.assert_allclose(found["y"], expected, rtol=0, atol=3e-5 * np.abs(expected).max())
        assert context.coverage.records["y" if flipped else "p"].bits < 32


@pytest.mark.parametrize("name", ["floats of 8 bits", "other floats of 8 bits"])
def test_floats_of_8_bits_are_stored_as_such(name: str, draw: Callable) -> None:
    model = sited(draw)
    small, context = written(model, ways_for(model, CODED[name], PORTABLE)[0], PORTABLE)
    assert {value.dtype for value in small.graph.initializers.values()} - {ir.DataType.FLOAT} <= {ir.DataType.FLOAT8E4M3FN, ir.DataType.FLOAT8E5M2}
    assert context.coverage.records["p"].form == "fp8"
    assert context.coverage.records["p"].bits <= 10


@pytest.mark.parametrize("name", ["codebook", "steps and outliers", "rows", "low rank"])
def test_what_decodes_a_weight_is_not_folded_again(name: str, draw: Callable) -> None:
    model = sited(draw)
    _, context = written(model, ways_for(model, CODED[name], PORTABLE)[0], PORTABLE)
    total = sum(value.const_value.nbytes for value in model.graph.initializers.values() if value.const_value is not None)
    assert total - 4 * COLUMNS == pytest.approx(context.coverage.records["p"].bits * ROWS * COLUMNS / 8, rel=0.1)


def test_the_kernel_of_nf4_is_used_where_there_is_one(draw: Callable, run_twice: Callable) -> None:
    coded = CODED["nf4"]
    assert isinstance(coded, Codebook)
    model = sited(draw)
    settle(model)
    (site,) = all_sites(model)
    place = place_of(site)
    way = bnb4_way(place, coded, OURS)
    assert isinstance(way, Way)
    assert isinstance(bnb4_way(place, coded, PORTABLE), Skip)
    assert isinstance(bnb4_way(place, Codebook(coded.codes, NF4[::-1], 4, coded.scales, 16), OURS), Skip)
    small, _ = written(model, way, OURS)
    assert [node.op_type for node in small.graph] == ["MatMulBnb4", "Add"]


def test_a_convolution_of_codebook_values_keeps_its_layout(draw: Callable, run_twice: Callable) -> None:
    kernel = noise(6, 2, 3, 3)
    model = draw("g (float[N,4,8,8] x) => (float[N,6,6,6] y) { y = Conv<group=2>(x, w, b) }", w=kernel, b=noise(6, seed=1))
    settle(model)
    (site,) = all_sites(model)
    coded = [Nf4().quantize(matrix, None, Grid(4, True, 0)) for matrix in site.matrices()]
    dense = site.stored(np.stack([part.matrix() for part in coded]))
    ways, _ = ways_of(place_of(site), coded, "nf4", PORTABLE, 0)
    small, _ = written(model, ways[0], PORTABLE)
    same = draw("g (float[N,4,8,8] x) => (float[N,6,6,6] y) { y = Conv<group=2>(x, w, b) }", w=dense, b=noise(6, seed=1))
    data = {"x": noise(2, 4, 8, 8, seed=2)}
    expected = run_twice(same, data)[0]["y"]
    for found in run_twice(small, data):
        np.testing.assert_allclose(found["y"], expected, atol=1e-4)


@pytest.mark.parametrize("method", [Nf4(), Fp8(), Fp8("e3m2")], ids=["nf4", "fp8", "floats of 6 bits"])
@pytest.mark.parametrize("block", [0, 16])
def test_the_groups_of_a_convolution_share_one_book(method: Method, block: int, draw: Callable, run_twice: Callable) -> None:
    text = "g (float[N,64,9] x) => (float[N,32,7] y) { y = Conv<group=4>(x, w, b) }"
    model = draw(text, w=noise(32, 16, 3), b=noise(32, seed=1))
    settle(model)
    (site,) = all_sites(model)
    coded = [method.quantize(matrix, None, Grid(4, True, block)) for matrix in site.matrices()]
    same = draw(text, w=site.stored(np.stack([part.matrix() for part in coded])), b=noise(32, seed=1))
    data = {"x": noise(2, 64, 9, seed=2)}
    expected = run_twice(same, data)[0]["y"]
    for target in (OURS, PORTABLE):
        copy = clone_model(model)
        settle(copy)
        (site,) = all_sites(copy)
        ways, _ = ways_of(place_of(site), coded, "small", target, 0)
        small, context = written(copy, ways[0], target)
        width = 4 if coded[0].bits == 4 else 8
        words = sum(part.scales.size for part in coded) + (48 if block else 0) + (0 if method == Fp8() else 2 ** coded[0].bits)
        assert context.coverage.records["y"].bits <= width + 32 * (words + 4) / (32 * 16 * 3)
        for found in run_twice(small, data):
            np.testing.assert_allclose(found["y"], expected, atol=1e-4)


def test_an_embedding_of_codebook_values_keeps_its_rows(draw: Callable, run_twice: Callable) -> None:
    table = noise(20, 32)
    model = draw("g (int64[N] i) => (float[N,32] y) { y = Gather(w, i) }", w=table)
    settle(model)
    (site,) = all_sites(model)
    coded = Nf4().quantize(np.ascontiguousarray(table.T), None, Grid(4, True, 16))
    ways, _ = ways_of(place_of(site), [coded], "nf4", PORTABLE, 0)
    small, _ = written(model, ways[0], PORTABLE)
    for found in run_twice(small, {"i": np.array([0, 19, 4])}):
        np.testing.assert_allclose(found["y"], coded.matrix().T[[0, 19, 4]], atol=1e-6)


def test_what_is_stored_in_no_way_that_operators_read_is_refused_in_a_sentence(draw: Callable) -> None:
    model = sited(draw)
    settle(model)
    (site,) = all_sites(model)
    ways, reason = ways_of(place_of(site), [Dense(noise(ROWS, COLUMNS), 1.0)], "dense", OURS, 0)
    assert not ways
    assert "Dense" in str(reason)


@pytest.mark.parametrize("size", [1, 2, 12, 64, 172, 192])
@pytest.mark.parametrize("transposed", [False, True])
def test_a_random_hadamard_matrix_is_a_product_of_small_ones(size: int, transposed: bool) -> None:
    turn = random_hadamard(size, np.random.default_rng(size))
    turn = turn.T if transposed else turn
    rows, columns, factors = kronecker_factors(turn)
    found = np.ones((1, 1))
    for factor in factors:
        found = np.kron(found, factor)
    np.testing.assert_allclose(rows[:, None] * found * columns, turn, atol=1e-12)
    assert sum(factor.size for factor in factors) <= max(size * size // 4, 144)


def test_a_weight_whose_turns_are_larger_than_itself_stays(draw: Callable) -> None:
    random = np.random.default_rng(0)
    coded = Turned(affine(), random_orthogonal(ROWS, random), random_orthogonal(COLUMNS, random), 64)
    model = sited(draw)
    settle(model)
    (site,) = all_sites(model)
    ways, reason = ways_of(place_of(site), [coded], "int4", OURS, 0)
    assert not ways and "more room than the weight" in str(reason)


def test_three_signs_of_a_weight_share_four_bits(draw: Callable) -> None:
    coded = Bcq().quantize(noise(ROWS, COLUMNS), None, Grid(3))
    _, context = written(sited(draw), ways_for(sited(draw), coded, PORTABLE)[0], PORTABLE)
    assert 4 < context.coverage.records["p"].bits < 7
