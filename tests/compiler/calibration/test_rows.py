"""X of a site, times its weight, is what the operator computes: for every kind and every option of a convolution."""

from __future__ import annotations

import itertools

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from graphwright.backends.ort.backend import OrtBackend
from graphwright.compiler.calibration import rows as module
from graphwright.compiler.calibration.rows import layout_of, rows_of
from graphwright.compiler.core.sites import Site, all_sites


def only_site(nodes: list[onnx.NodeProto], shape: list[int | str], kind: int = TensorProto.FLOAT, **weights: np.ndarray) -> tuple[ir.Model, Site]:
    """A model x -> y, and its one site."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", kind, shape)],
        [onnx.ValueInfoProto(name="y")],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9))
    (site,) = all_sites(model)
    return model, site


def product(site: Site, x: np.ndarray) -> np.ndarray:
    """X W of each group: [groups, N, M / groups]."""
    found = np.concatenate(list(rows_of(x, layout_of(site))), axis=1)
    return found @ site.matrices()


def run(model: ir.Model, x: np.ndarray) -> np.ndarray:
    """What ONNX Runtime computes."""
    runner = OrtBackend().reference(model)
    result = runner.run({"x": x})["y"]
    runner.close()
    assert isinstance(result, np.ndarray)
    return result


def by_group(output: np.ndarray, groups: int) -> np.ndarray:
    """[B, M, spatial] as [groups, B * positions, M / groups]."""
    return output.reshape(len(output), groups, output.shape[1] // groups, -1).transpose(1, 0, 3, 2).reshape(groups, -1, output.shape[1] // groups)


def conv(rng: np.random.Generator, kernel: tuple[int, ...], groups: int, **options: object) -> tuple[ir.Model, Site, np.ndarray]:
    """A convolution of 2 channels a group, and an input for it."""
    weight = rng.standard_normal((3 * groups, 2, *kernel), dtype=np.float32)
    node = helper.make_node("Conv", ["x", "w"], ["y"], group=groups, **options)
    x = rng.standard_normal((2, 2 * groups, *(9, 8, 7)[: len(kernel)]), dtype=np.float32)
    return *only_site([node], list(x.shape), w=weight), x


@pytest.mark.parametrize("chunk", [1, 40, 1 << 21])
@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("auto_pad", ["NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"])
def test_patches_times_weight_are_the_convolution(auto_pad: str, groups: int, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK", chunk)
    rng = np.random.default_rng(0)
    for strides, dilations in itertools.product(([1, 1], [2, 3]), ([1, 1], [2, 1])):
        if auto_pad.startswith("SAME") and dilations != [1, 1]:
            continue  # ONNX Runtime has no such convolution.
        pads = {"pads": [1, 0, 2, 3]} if auto_pad == "NOTSET" else {"auto_pad": auto_pad}
        model, site, x = conv(rng, (3, 2), groups, strides=strides, dilations=dilations, **pads)
        np.testing.assert_allclose(product(site, x), by_group(run(model, x), groups), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kernel", [(4,), (1,), (1, 1), (2, 3, 2)])
def test_convolutions_of_any_rank_are_unfolded(kernel: tuple[int, ...]) -> None:
    model, site, x = conv(np.random.default_rng(1), kernel, 2)
    np.testing.assert_allclose(product(site, x), by_group(run(model, x), 2), rtol=1e-4, atol=1e-4)


def test_padding_wider_than_the_image_is_zeros() -> None:
    model, site, x = conv(np.random.default_rng(2), (3, 3), 1, pads=[20, 0, 0, 20], strides=[7, 1])
    np.testing.assert_allclose(product(site, x), by_group(run(model, x), 1), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("groups", [1, 2])
def test_pixels_times_weight_are_what_a_transposed_convolution_scatters(groups: int) -> None:
    rng = np.random.default_rng(3)
    weight = rng.standard_normal((4, 3, 2, 2), dtype=np.float32)
    model, site = only_site([helper.make_node("ConvTranspose", ["x", "w"], ["y"], group=groups, strides=[2, 2])], [2, 4, 3, 5], w=weight)
    x = rng.standard_normal((2, 4, 3, 5), dtype=np.float32)
    found = product(site, x).reshape(groups, 2, 3, 5, 3, 2, 2)  # A tap of a stride as long as the kernel is one pixel of the output.
    expected = found.transpose(1, 0, 4, 2, 5, 3, 6).reshape(2, 3 * groups, 6, 10)
    np.testing.assert_allclose(run(model, x), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", [(5,), (3, 5), (2, 3, 5)])
def test_rows_times_weight_are_the_product(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(4)
    model, site = only_site([helper.make_node("MatMul", ["x", "w"], ["y"])], list(shape), w=rng.standard_normal((5, 4), dtype=np.float32))
    x = rng.standard_normal(shape, dtype=np.float32)
    np.testing.assert_allclose(product(site, x)[0], run(model, x).reshape(-1, 4), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", [(5,), (5, 3), (2, 5, 3)])
def test_columns_are_multiplied_by_a_weight_on_the_left(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(5)
    model, site = only_site([helper.make_node("MatMul", ["w", "x"], ["y"])], list(shape), w=rng.standard_normal((4, 5), dtype=np.float32))
    x = rng.standard_normal(shape, dtype=np.float32)
    output = run(model, x)
    expected = output.reshape(1, 4) if len(shape) == 1 else output.swapaxes(-1, -2).reshape(-1, 4)
    np.testing.assert_allclose(product(site, x)[0], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("turned", [0, 1])
def test_a_gemm_multiplies_its_rows(turned: int) -> None:
    rng = np.random.default_rng(6)
    weight = rng.standard_normal((4, 5) if turned else (5, 4), dtype=np.float32)
    model, site = only_site([helper.make_node("Gemm", ["x", "w"], ["y"], transB=turned)], [3, 5], w=weight)
    x = rng.standard_normal((3, 5), dtype=np.float32)
    np.testing.assert_allclose(product(site, x)[0], run(model, x), rtol=1e-5, atol=1e-5)


def test_no_piece_of_x_is_larger_than_a_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK", 1000)
    rng = np.random.default_rng(7)
    _, site, x = conv(rng, (3, 3), 2)
    assert all(piece.size <= 1000 for piece in rows_of(np.tile(x, (1, 1, 30, 30)), layout_of(site)))


@pytest.mark.parametrize("kernel", [(3, 2), (1, 1)])
def test_rows_are_counted_without_making_them(kernel: tuple[int, int]) -> None:
    _, site, x = conv(np.random.default_rng(8), kernel, 2, strides=[2, 1], pads=[1, 0, 2, 3])
    layout = layout_of(site)
    assert module.count_rows(x.shape, layout) == sum(piece.shape[1] for piece in rows_of(x, layout))


@pytest.mark.parametrize(("kernel", "groups"), [((3, 2), 1), ((3, 3), 3), ((4,), 2), ((2, 3, 2), 1)])
def test_rows_are_drawn_as_they_would_be_made(kernel: tuple[int, ...], groups: int) -> None:
    rank = len(kernel)
    _, site, x = conv(np.random.default_rng(9), kernel, groups, strides=[2] * rank, pads=[1] * 2 * rank)
    layout = layout_of(site)
    every = np.concatenate(list(rows_of(x, layout)), axis=1)
    pieces = list(module.drawn_rows(x, layout, 0.4, np.random.default_rng(0)))
    drawn = np.concatenate([piece for piece, _ in pieces], axis=1)
    assert sum(total for _, total in pieces) == every.shape[1] > drawn.shape[1] >= 0.4 * every.shape[1]
    known = {row.tobytes() for row in np.ascontiguousarray(every.transpose(1, 0, 2))}
    assert {row.tobytes() for row in np.ascontiguousarray(drawn.transpose(1, 0, 2))} <= known


@pytest.mark.parametrize("pads", [[0, 0, 0, 0], [1, 1, 1, 1]])
def test_the_reach_of_patches_bounds_them_and_is_that_of_their_channel(pads: list[int]) -> None:
    _, site, x = conv(np.random.default_rng(10), (3, 3), 3, pads=pads)
    x += 5.0  # Without padding, zero is out of reach.
    layout = layout_of(site)
    every = np.concatenate(list(rows_of(x, layout)), axis=1)
    low, high = module.reach_of(x, layout)
    assert low.shape == high.shape == (3, layout.width)
    assert (low <= every.min(axis=1)).all() and (every.max(axis=1) <= high).all()
    np.testing.assert_array_equal(low.reshape(3, 2, 9).min(axis=2), every.min(axis=1).reshape(3, 2, 9).min(axis=2))
    np.testing.assert_array_equal(high.reshape(3, 2, 9).max(axis=2), every.max(axis=1).reshape(3, 2, 9).max(axis=2))
