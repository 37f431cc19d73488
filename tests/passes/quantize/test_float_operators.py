"""A static quantisation names every operator that goes on computing in float, and why."""

from __future__ import annotations

from dataclasses import replace

from graphwright.passes.quantize.static import QuantizeStatic

from .static_models import images, kernel, model_of, quantised

TEXT = """g (float[1,3,8,8] x) => (float[1,4,8,8] y, int64[4] size) {
    a = Conv(x, k1) b = Erf(a) c = Relu(a) d = Conv(c, k2) e = LeakyRelu(d) f = Conv(e, k3) h = Add(f, b) y = Softmax(h) size = Shape(a)
}"""
WEIGHTS = {"k1": kernel(4, 3, 1, 1), "k2": kernel(4, 4, 1, 1), "k3": kernel(4, 4, 1, 1)}
STEP = QuantizeStatic(ranges="minmax", equalize=False, spare=False)


def left(step: QuantizeStatic = STEP) -> dict[str, str]:
    _, context, _ = quantised(model_of(TEXT, WEIGHTS), images(4, 1, 3, 8, 8), step)
    return {name: record.why for name, record in context.coverage.records.items() if not record.form}


def test_operators_without_a_kernel_for_integers_and_those_that_no_site_follows_are_named() -> None:
    assert left() == {
        "b": "Erf has no kernel for integers",
        "h": "nothing that computes on integers reads what it makes",
        "y": "Softmax has no kernel for integers",
    }


def test_an_operator_that_was_not_to_be_quantised_says_so() -> None:
    assert left(replace(STEP, types=("Conv",)))["e"] == "LeakyRelu is not among the operators to quantise"


def test_what_computes_on_integers_is_not_named() -> None:
    _, context, _ = quantised(model_of(TEXT, WEIGHTS), images(4, 1, 3, 8, 8), STEP)
    assert {name for name, record in context.coverage.records.items() if record.form} == {"a", "d", "e", "f"}


def test_nothing_but_the_sites_is_named_where_single_sites_are_asked_for() -> None:
    assert not left(replace(STEP, only=("a",)))
