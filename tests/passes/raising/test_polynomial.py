"""Sums and products read as polynomials mean the same in every order, and nothing is read that could change a shape."""

from __future__ import annotations

import itertools

import onnx_ir as ir
import pytest

from graphwright.compiler.core.graph import bind_opsets
from graphwright.compiler.core.shapes import infer_shapes
from graphwright.passes.raising.polynomial import ONE, monomial, read

HEADER = '<ir_version: 10, opset_import: ["" : 21]>\n'
NUMBERS = "float one = {1}, float half = {0.5}, float two = {2}, float three = {3}"


def graph_of(body: str, given: str = "float[N,4] x, float[N,4] e", constants: str = NUMBERS) -> ir.Graph:
    model = ir.from_onnx_text(f"{HEADER}g ({given}) => (float[A,B] y) <{constants}> {{ {body} }}")
    bind_opsets(model)
    infer_shapes(model)
    return model.graph


def terms_of(graph: ir.Graph) -> dict[tuple[str, ...], float]:
    """The polynomial of the output, with a product written as the sorted names of its factors."""
    found = read(graph.outputs[0])
    assert found is not None
    return {tuple(sorted(value.name or "" for value, power in key for _ in range(power))): number for key, number in found.terms.items()}


def orders() -> list[str]:
    """Every way to multiply x, (1 + e) and a half, two at a time, in either order."""
    found = []
    for first, second, third in itertools.permutations(["x", "b", "half"]):
        found.append(f"b = Add(e, one) p = Mul({first}, {second}) y = Mul(p, {third})")
        found.append(f"b = Add(one, e) p = Mul({first}, {second}) y = Mul({third}, p)")
    return found


@pytest.mark.parametrize("body", orders())
def test_the_order_of_a_product_does_not_matter(body: str) -> None:
    assert terms_of(graph_of(body)) == {("x",): 0.5, ("e", "x"): 0.5}


@pytest.mark.parametrize(
    ("body", "terms"),
    [
        ("a = Div(x, two) y = Sub(a, e)", {("x",): 0.5, ("e",): -1.0}),
        ("a = Neg(x) y = Sub(one, a)", {(): 1.0, ("x",): 1.0}),
        ("a = Mul(x, two) y = Pow(a, three)", {("x", "x", "x"): 8.0}),
        ("a = Mul(x, x) y = Mul(a, x)", {("x", "x", "x"): 1.0}),
        ("y = Sub(x, x)", {("x",): 0.0}),
    ],
)
def test_a_polynomial_is_read(body: str, terms: dict[tuple[str, ...], float]) -> None:
    assert terms_of(graph_of(body)) == terms


@pytest.mark.parametrize(
    ("body", "given", "constants"),
    [
        ("y = Mul(x, v)", "float[N,1] x", "float[4] v = {2,2,2,2}"),
        ("y = Mul(x, v)", "float[4] x", "float[1,1] v = {2}"),
        ("y = Mul(x, v)", "float[N,4] x", "float[4] v = {2,2,2,3}"),
        ("y = Div(v, x)", "float[N,4] x", "float v = {2}"),
        ("y = Div(x, v)", "float[N,4] x", "float v = {0}"),
        ("a = Add(x, v) y = Pow(a, v)", "float[N,4] x", "float v = {2}"),
    ],
)
def test_what_is_no_sum_or_product_with_a_number_stands_for_itself(body: str, given: str, constants: str) -> None:
    found = terms_of(graph_of(body, given, constants))
    assert ("y",) in found or ("v", "x") in found


def test_a_cast_between_float_types_is_looked_through_and_one_from_integers_is_not() -> None:
    floating = graph_of("a = Cast<to=1>(x) y = Mul(a, two)", "float16[N,4] x")
    counted = graph_of("a = Cast<to=1>(x) y = Mul(a, two)", "int64[N,4] x")
    assert terms_of(floating) == {("x",): 2.0}
    assert terms_of(counted) == {("a",): 2.0}


def test_reading_stops_at_the_base() -> None:
    graph = graph_of("a = Mul(x, two) y = Mul(a, half)")
    base = graph[0].outputs[0]
    found = read(graph.outputs[0], base)
    assert found is not None and dict(found.terms) == {monomial(base): 0.5}
    assert found.linear(base) == (0.5, 0.0)
    assert ONE not in found.terms


def test_what_grows_too_large_stands_for_itself() -> None:
    assert terms_of(graph_of("a = Add(x, one) b = Add(e, one) c = Mul(a, b) d = Mul(c, c) y = Mul(d, two)")) == {("d",): 2.0}
