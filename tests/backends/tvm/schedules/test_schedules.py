"""The schedules of an untuned build: they change no number, and hold the tile of a product in registers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

tvm = pytest.importorskip("tvm")

from tvm import te, topi  # noqa: E402

from graphwright.backends.tvm.machine import this_machine  # noqa: E402
from graphwright.backends.tvm.schedules.default import SCHEDULED, candidate, guess, schedule_kernels  # noqa: E402
from graphwright.backends.tvm.schedules.machine import Machine, machine_of  # noqa: E402
from graphwright.backends.tvm.schedules.tiles import Plan, tilings  # noqa: E402

Kernel = Callable[[], list[te.Tensor]]

WIDE = Machine(16, 32, 2)


def dense(rows: int, inner: int, columns: int) -> list[te.Tensor]:
    """max(0, x w + b)."""
    x, w, b = (te.placeholder(shape, name=name) for shape, name in (((rows, inner), "x"), ((inner, columns), "w"), ((columns,), "b")))
    return [x, w, b, topi.nn.relu(topi.add(topi.nn.matmul(x, w), b))]


def attention_scores(heads: int, length: int, width: int) -> list[te.Tensor]:
    """q k', batched, with the second operand transposed."""
    q, k = (te.placeholder((heads, length, width), name=name) for name in "qk")
    return [q, k, topi.nn.batch_matmul(q, k, transpose_b=True)]


def convolution(size: int, channels: int, filters: int, window: int, stride: int) -> list[te.Tensor]:
    """A padded NHWC convolution with what follows it."""
    x = te.placeholder((1, size, size, channels), name="x")
    w = te.placeholder((window, window, channels, filters), name="w")
    b = te.placeholder((filters,), name="b")
    return [x, w, b, topi.nn.relu(topi.add(topi.nn.conv2d_nhwc(x, w, stride, window // 2, 1), b))]


def depthwise(size: int, channels: int) -> list[te.Tensor]:
    """A depthwise NHWC convolution."""
    x, w = te.placeholder((1, size, size, channels), name="x"), te.placeholder((3, 3, channels, 1), name="w")
    return [x, w, topi.nn.depthwise_conv2d_nhwc(x, w, 1, 1, 1)]


def softmax(*shape: int) -> list[te.Tensor]:
    """Softmax along the last axis."""
    x = te.placeholder(shape, name="x")
    return [x, topi.nn.softmax(x)]


def layer_norm(rows: int, width: int) -> list[te.Tensor]:
    """Normalisation along the last axis."""
    x, scale, shift = te.placeholder((rows, width), name="x"), te.placeholder((width,), name="s"), te.placeholder((width,), name="t")
    return [x, scale, shift, topi.nn.layer_norm(x, scale, shift, [1], 1e-5)]


def mean(*shape: int) -> list[te.Tensor]:
    """The mean over all but the first and last axes."""
    x = te.placeholder(shape, name="x")
    return [x, topi.divide(topi.sum(x, tuple(range(1, len(shape) - 1))), float(np.prod(shape[1:-1])))]


def moved(rows: int, columns: int) -> list[te.Tensor]:
    """exp(x') with an odd last dimension."""
    x = te.placeholder((rows, columns), name="x")
    return [x, topi.exp(topi.transpose(x))]


def heads(rows: int, count: int, width: int) -> list[te.Tensor]:
    """x w, its columns split into heads that go in front."""
    x, w = te.placeholder((rows, 48), name="x"), te.placeholder((48, count * width), name="w")
    return [x, w, topi.transpose(topi.reshape(topi.nn.matmul(x, w), (rows, count, width)), (1, 0, 2))]


def rolled(rows: int, columns: int) -> list[te.Tensor]:
    """x w plus itself moved by one column."""
    x, w = te.placeholder((rows, 24), name="x"), te.placeholder((24, columns), name="w")
    product = topi.nn.matmul(x, w)
    return [x, w, te.compute((rows, columns), lambda i, j: product[i, j] + product[i, (j + 1) % columns], name="rolled")]


def place_of_largest(rows: int, columns: int, axis: int) -> list[te.Tensor]:
    """Where the largest value along an axis is, as a float."""
    x = te.placeholder((rows, columns), name="x")
    return [x, topi.cast(topi.argmax(x, axis), "float32")]


KERNELS: dict[str, Kernel] = {
    "place of the largest in a column": lambda: place_of_largest(24, 32, 0),
    "place of the largest in a row": lambda: place_of_largest(24, 32, 1),
    "product split into heads": lambda: heads(16, 4, 64),
    "product split into heads that tiles cut": lambda: heads(9, 12, 32),
    "product split into odd heads": lambda: heads(7, 6, 24),
    "product added to its neighbour": lambda: rolled(8, 96),
    "dense": lambda: dense(128, 64, 96),
    "dense of one row": lambda: dense(1, 40, 1000),
    "dense that divides badly": lambda: dense(37, 53, 27),
    "dense of one column": lambda: dense(8, 64, 1),
    "attention scores": lambda: attention_scores(3, 24, 32),
    "convolution": lambda: convolution(14, 16, 48, 3, 1),
    "strided convolution": lambda: convolution(15, 3, 24, 3, 2),
    "pointwise convolution": lambda: convolution(7, 32, 40, 1, 1),
    "depthwise convolution": lambda: depthwise(14, 48),
    "softmax": lambda: softmax(4, 33, 128),
    "softmax of an odd row": lambda: softmax(5, 13),
    "layer normalisation": lambda: layer_norm(24, 384),
    "mean over pixels": lambda: mean(1, 7, 7, 64),
    "transposed exponential": lambda: moved(30, 17),
}


def primfunc(tensors: list[te.Tensor], free: bool = False) -> tvm.tirx.PrimFunc:
    """A kernel of what te computes; ``free`` marks its second argument as a weight."""
    function = te.create_prim_func(tensors)
    return function.with_attr("layout_free_buffers", [1]) if free else function


def run(function: tvm.tirx.PrimFunc, arrays: list[np.ndarray]) -> np.ndarray:
    """The last argument of a kernel after it ran on the others."""
    library = tvm.compile(tvm.IRModule({"main": function.with_attr("global_symbol", "main")}), target=this_machine()).jit()
    arguments = [tvm.runtime.tensor(array) for array in arrays]
    library["main"](*arguments)
    return arguments[-1].numpy()


def made_up(function: tvm.tirx.PrimFunc) -> list[np.ndarray]:
    """Arguments drawn from a normal distribution."""
    random = np.random.default_rng(0)
    return [random.standard_normal([int(size) for size in buffer.shape], dtype=np.float32) for buffer in function.params]


@pytest.mark.parametrize("name", KERNELS)
def test_a_schedule_changes_no_number(name: str) -> None:
    function = primfunc(KERNELS[name]())
    arrays = made_up(function)
    made = guess(function, machine_of(this_machine()))
    assert made is not None and SCHEDULED in made.attrs
    np.testing.assert_allclose(run(made, arrays), run(function, arrays), rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("lanes", [4, 8])
def test_schedules_for_other_processors_change_no_number(lanes: int) -> None:
    function = primfunc(dense(24, 32, 64))
    arrays = made_up(function)
    made = guess(function, Machine(lanes, 16, 2))
    assert made is not None
    np.testing.assert_allclose(run(made, arrays), run(function, arrays), rtol=2e-5, atol=2e-5)


def test_all_variants_of_a_product_compute_the_same() -> None:
    module = tvm.IRModule({"main": primfunc(dense(32, 16, 64)).with_attr("global_symbol", "main")})
    arrays = made_up(module["main"])
    wanted = run(module["main"], arrays)
    variants = []
    while (made := candidate(module, WIDE, len(variants))) is not None:
        variants.append(made)
        if len(variants) % 5 == 1:
            np.testing.assert_allclose(run(made.mod["main"], arrays), wanted, rtol=2e-5, atol=2e-5)
    assert len(variants) > 5
    assert len({str(made.trace) for made in variants}) == len(variants)


def test_a_weight_is_laid_out_as_the_product_reads_it() -> None:
    made = guess(primfunc(dense(32, 16, 128), free=True), WIDE)
    assert made is not None
    assert "layout_rewrite_preproc" in made.script()


def test_the_best_tile_fits_into_the_registers() -> None:
    from graphwright.backends.tvm.schedules.blocks import Shape

    shape = Shape("ssr", (128, 384, 384), (), (), (), False, False)
    for machine in (WIDE, Machine(8, 16, 2), Machine(4, 32, 2)):
        for tiling in tilings(shape, Plan(1, (0,), (), None), machine):
            held = tiling.vectors * tiling.rows[0]
            assert held + tiling.vectors + 1 <= machine.registers or tiling.rows[0] == 1
    best = tilings(shape, Plan(1, (0,), (), None), WIDE)[0]
    assert best.vectors * best.rows[0] >= 8, "fewer sums than a multiply-add takes cycles leave the multipliers idle"


def test_a_kernel_with_open_dimensions_is_left_alone() -> None:
    size = te.var("n")
    x = te.placeholder((size, 8), name="x")
    module = tvm.IRModule({"main": te.create_prim_func([x, topi.exp(x)]).with_attr("global_symbol", "main")})
    assert schedule_kernels(module, this_machine())["main"].same_as(module["main"])


def test_a_table_that_is_looked_things_up_in_keeps_its_layout() -> None:
    table = te.placeholder((64, 32), name="table")
    index = te.placeholder((8, 2), "int64", name="index")
    function = te.create_prim_func([table, index, topi.gather_nd(table, topi.transpose(index))]).with_attr("layout_free_buffers", [0, 1])
    made = schedule_kernels(tvm.IRModule({"main": function.with_attr("global_symbol", "main")}), this_machine())["main"]
    assert "layout_free_buffers" not in made.attrs
    assert [list(map(int, buffer.shape)) for buffer in made.params] == [[64, 32], [8, 2], [8]]
    random = np.random.default_rng(0)
    values, places = random.standard_normal((64, 32), dtype=np.float32), random.integers(0, 32, (8, 2))
    np.testing.assert_array_equal(run(made, [values, places, np.zeros(8, np.float32)]), values[places[:, 0], places[:, 1]])
