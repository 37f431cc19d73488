"""Dimensions are called equal only when they are, for every size of their symbols, 0 and 1 included."""

from __future__ import annotations

import itertools

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from graphwright.compiler.core import dims
from graphwright.compiler.core.dims import Dim
from graphwright.compiler.core.errors import ModelError

N, M, K = (ir.SymbolicDim(name) for name in "NMK")
NAMES = ("N", "M", "K")
SIZES = (0, 1, 2, 3, 5)

sizes = st.fixed_dictionaries({name: st.sampled_from((0, 1, 2, 3, 7)) for name in NAMES})


def combined(inner: st.SearchStrategy[Dim]) -> st.SearchStrategy[Dim]:
    def build(parts: tuple[str, Dim, Dim, int]) -> Dim:
        name, a, b, number = parts
        if name == "floor_divide":
            return dims.floor_divide(a, number)
        if name == "modulo":
            return dims.modulo(a, number)
        operation = {"add": dims.add, "subtract": dims.subtract, "multiply": dims.multiply, "maximum": dims.maximum, "minimum": dims.minimum}[name]
        return operation(a, b)

    names = st.sampled_from(("add", "subtract", "multiply", "floor_divide", "modulo", "maximum", "minimum"))
    return st.tuples(names, inner, inner, st.integers(1, 5)).map(build)


expressions = st.recursive(st.one_of(st.integers(-3, 6), st.sampled_from((N, M, K))), combined, max_leaves=6)


def value(dim: Dim, bindings: dict[str, int]) -> int:
    found = dims.evaluate(dim, bindings)
    assert found is not None
    return found


@pytest.mark.parametrize(("operation", "meaning"), [
    (dims.add, lambda a, b: a + b),
    (dims.subtract, lambda a, b: a - b),
    (dims.multiply, lambda a, b: a * b),
    (dims.maximum, max),
    (dims.minimum, min),
    (dims.floor_divide, lambda a, b: a // b),
    (dims.ceil_divide, lambda a, b: -(-a // b)),
    (dims.modulo, lambda a, b: a % b),
])  # fmt: skip
@given(a=expressions, b=expressions, bindings=sizes)
def test_an_expression_has_the_value_of_the_arithmetic_it_stands_for(operation, meaning, a, b, bindings) -> None:
    assume(dims.is_known(a) and dims.is_known(b))
    if operation in (dims.floor_divide, dims.ceil_divide, dims.modulo):
        assume(value(b, bindings) > 0 and value(a, bindings) >= 0)
    result = operation(a, b)
    assume(dims.is_known(result))
    assert value(result, bindings) == meaning(value(a, bindings), value(b, bindings))


@given(a=expressions, b=expressions, bindings=sizes)
def test_what_is_called_the_same_has_the_same_value(a: Dim, b: Dim, bindings: dict[str, int]) -> None:
    assume(dims.is_known(a) and dims.is_known(b))
    if dims.same(a, b):
        assert value(a, bindings) == value(b, bindings)


@given(dim=expressions)
def test_the_text_of_an_expression_reads_back_as_the_same(dim: Dim) -> None:
    assume(isinstance(dim, ir.SymbolicDim) and dim.value is not None)
    assert dims.same(ir.SymbolicDim(dim.value), dims.add(dims.add(dim, 1), -1))


@given(dim=expressions, bound=st.integers(-4, 6), bindings=sizes)
def test_a_bound_holds_for_every_size(dim: Dim, bound: int, bindings: dict[str, int]) -> None:
    assume(dims.is_known(dim))
    if dims.at_least(dim, bound):
        assert value(dim, bindings) >= bound


@given(dim=expressions, bindings=sizes)
def test_what_is_said_of_zero_holds_for_every_size(dim: Dim, bindings: dict[str, int]) -> None:
    assume(dims.is_known(dim))
    zeros = frozenset(name for name, size in bindings.items() if size == 0)
    verdict = dims.is_zero_when(dim, zeros)
    assert verdict is None or verdict == (value(dim, bindings) == 0)
    if dims.factors(dim) & zeros:
        assert value(dim, bindings) == 0
    if dims.positive_given(dim, frozenset(NAMES) - zeros):
        assert value(dim, bindings) >= 1


@pytest.mark.parametrize(("a", "b"), [
    (dims.add(dims.multiply(N, 2), N), dims.multiply(3, N)),
    (dims.multiply(dims.add(N, 1), dims.add(N, -1)), dims.add(dims.multiply(N, N), -1)),
    (dims.floor_divide(dims.add(dims.multiply(4, N), 3), 2), dims.add(dims.multiply(2, N), 1)),
    (dims.floor_divide(dims.add(dims.floor_divide(dims.add(N, 1), 2), 1), 2), dims.floor_divide(dims.add(N, 3), 4)),
    (dims.maximum(N, 0), N),
    (dims.floor_divide(dims.multiply(dims.multiply(N, M), K), dims.multiply(4, N)), dims.floor_divide(dims.multiply(M, K), 4)),
    (dims.minimum(dims.add(N, 2), N), N),
    (dims.modulo(dims.multiply(N, 8), 4), 0),
    (ir.SymbolicDim("((s0 - 1)//2) + 1"), dims.add(dims.floor_divide(dims.add(ir.SymbolicDim("s0"), -1), 2), 1)),
    (ir.SymbolicDim("s0*2"), ir.SymbolicDim("2*s0")),
    (ir.SymbolicDim("s0**2"), dims.multiply(ir.SymbolicDim("s0"), ir.SymbolicDim("s0"))),
])  # fmt: skip
def test_equal_expressions_are_the_same(a: Dim, b: Dim) -> None:
    assert dims.same(a, b)


@pytest.mark.parametrize(("a", "b"), [
    (N, M), (N, 5), (N, 1), (N, 0), (dims.UNKNOWN, dims.UNKNOWN), (N, dims.UNKNOWN), (dims.maximum(N, 1), N), (dims.floor_divide(N, 2), N),
    (ir.SymbolicDim("batch-size"), dims.subtract(ir.SymbolicDim("batch"), ir.SymbolicDim("size"))), (ir.SymbolicDim("3"), 3),
])  # fmt: skip
def test_what_may_differ_is_not_the_same(a: Dim, b: Dim) -> None:
    assert not dims.same(a, b)


def test_a_name_of_any_spelling_stays_one_symbol() -> None:
    odd = ir.SymbolicDim("batch-size of x (0)")
    assert dims.same(odd, ir.SymbolicDim("batch-size of x (0)"))
    longer = dims.add(odd, 1)
    assert dims.same(dims.subtract(longer, 1), odd)
    assert dims.subtract(longer, 1) == odd
    assert dims.evaluate(longer, {"batch-size of x (0)": 4}) == 5


def test_symbols_made_here_are_told_from_the_models_own() -> None:
    mine = dims.fresh_symbol()
    assert dims.is_ours(mine) and dims.is_ours(dims.add(mine, N))
    assert not dims.is_ours(N) and not dims.is_ours(3) and not dims.is_ours(dims.UNKNOWN)
    assert not dims.same(mine, dims.fresh_symbol())
    assert dims.age(dims.add(mine, N)) == dims.age(mine) < dims.age(dims.fresh_symbol())
    assert dims.age(N) == 0


def test_an_expression_that_doubles_in_each_layer_is_given_up() -> None:
    dim: Dim = N
    for _ in range(200):
        dim = dims.maximum(dims.subtract(dim, dims.minimum(dim, M)), K)
    assert not dims.is_known(dim)
    wide = dims.multiply(dims.add(dims.add(N, M), dims.add(K, 1)), dims.add(dims.add(N, M), dims.add(K, 1)))
    assert dims.is_known(wide) and not dims.is_known(dims.multiply(wide, dims.multiply(wide, wide)))


def test_elements_multiply_and_an_empty_dimension_wins() -> None:
    assert dims.same(dims.elements([N, 2, M]), dims.multiply(2, dims.multiply(N, M)))
    assert dims.elements([dims.UNKNOWN, 0]) == 0
    assert dims.elements([]) == 1
    assert dims.same_elements([N, 12, 64], [N, 768])
    assert not dims.same_elements([N, 12], [M, 12])
    assert dims.divide_exactly(dims.elements([N, M, 768]), dims.elements([N, M])) == 768
    assert dims.divide_exactly(N, 2) is None


@pytest.mark.parametrize(("a", "b", "result"), [
    (N, 5, 5), (5, N, 5), (N, 1, N), (1, N, N), (N, N, N), (0, N, 0), (3, 1, 3), (dims.add(N, 2), M, dims.add(N, 2)),
    (N, dims.minimum(N, 2048), N), (dims.minimum(N, 2048), N, N),
])  # fmt: skip
def test_broadcasting_keeps_what_is_proven(a: Dim, b: Dim, result: Dim) -> None:
    assert dims.same(dims.broadcast_dims(a, b), result)


@pytest.mark.parametrize(("a", "b"), [(N, M), (N, dims.UNKNOWN), (N, dims.minimum(N, 1)), (dims.add(N, 1), M)])
def test_broadcasting_two_symbols_does_not_merge_them(a: Dim, b: Dim) -> None:
    assert not dims.is_known(dims.broadcast_dims(a, b))


def test_numbers_that_cannot_broadcast_are_an_error() -> None:
    with pytest.raises(ModelError, match="2 and 3"):
        dims.broadcast([2, N], [3, N])


shapes = st.lists(st.one_of(st.sampled_from((0, 1, 2, 3)), st.sampled_from((N, M, dims.add(N, 1), dims.minimum(N, 4)))), max_size=3)


@given(small=shapes, big=shapes)
def test_broadcasting_agrees_with_numpy_wherever_numpy_can(small: list[Dim], big: list[Dim]) -> None:
    try:
        result = dims.broadcast(small, big)
    except ModelError:
        result = None
    fits = dims.broadcasts_into(small, big)
    for n, m in itertools.product(SIZES, SIZES):
        bindings = {"N": n, "M": m}
        concrete = [tuple(value(dim, bindings) for dim in shape) for shape in (small, big)]
        try:
            real = np.broadcast_shapes(*concrete)
        except ValueError:
            continue
        assert result is not None and len(result) == len(real)
        assert all(not dims.is_known(dim) or value(dim, bindings) == size for dim, size in zip(result, real, strict=True))
        assert not fits or real == concrete[1]


@pytest.mark.parametrize(
    ("small", "big"), [([5], [N]), ([N], [M]), ([1, 3], [3]), ([N, 1], [1, N]), (None, [1]), ([N], None), ([dims.UNKNOWN], [dims.UNKNOWN])]
)
def test_what_might_widen_the_result_does_not_broadcast_into(small: list[Dim] | None, big: list[Dim] | None) -> None:
    assert not dims.broadcasts_into(small, big)


@pytest.mark.parametrize(("small", "big"), [([], [N]), ([1], [N]), ([N], [5]), ([1, N], [M, N]), ([3], [N, 3]), ([dims.minimum(N, 512)], [2, N])])
def test_what_cannot_widen_the_result_broadcasts_into(small: list[Dim], big: list[Dim]) -> None:
    assert dims.broadcasts_into(small, big)


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        ("max(-min(1, N + min(1, N)) + min(N + 1, N + min(1, N)), 0)", "N", True),
        ("min(N, 1) + max(N - 1, 0)", "N", True),
        ("min(N, 2) + max(N - 2, 0)", "N", False),
        ("min(N, 1)", "N", False),
        ("min(N, 1) + min(M, 1)", "min(N, 1)", False),
        ("max(N, M)", "N", False),
        ("max(N, 1)", "N", False),
    ],
)
def test_minima_and_maxima_are_proven_equal_case_by_case(one: str, other: str, equal: bool) -> None:
    assert dims.same(ir.SymbolicDim(one), ir.SymbolicDim(other)) is equal
