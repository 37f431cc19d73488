"""What a compressed model and its original have in common: the trunk of residual models, places of attention, what outputs hold."""

from __future__ import annotations

import pytest

from graphwright.passes.differentiable.answers import score_outputs
from graphwright.passes.recover.distill import Aims
from graphwright.passes.recover.matching import attentions, evenly, trunk
from graphwright.passes.recover.recover import settled

from .recovered_models import NET, WEIGHTS, drawn

ATTENDS = """net (float[n, l, 8] x) => (float[n, l, 8] y) {
    q = MatMul(x, Q) k = MatMul(x, K) v = MatMul(x, V) a = Attention<q_num_heads = 2, kv_num_heads = 2>(q, k, v) o = MatMul(a, O) y = Add(o, x) }"""
SOFTMAX = """net (float[n, l, 8] x) => (float[n, l, 8] y) {
    q = MatMul(x, Q) k = MatMul(x, K) v = MatMul(x, V) t = Transpose<perm = [0, 2, 1]>(k) s = MatMul(q, t) m = Softmax(s) a = MatMul(m, v) y = MatMul(a, O) }"""
SQUARES = dict.fromkeys("QKVO", (8, 8))


def test_the_trunk_of_a_residual_model_is_what_its_blocks_give() -> None:
    assert trunk(drawn(NET, WEIGHTS)) == ["c", "f", "i", "y"]


def test_what_runs_beside_a_residual_connection_is_no_trunk() -> None:
    text = "net (float[n, 8] x) => (float[n, 8] y) { r = MatMul(x, Q) a = MatMul(r, K) b = Relu(a) c = MatMul(b, V) d = Add(c, r) y = MatMul(d, O) }"
    assert trunk(drawn(text, SQUARES)) == ["r", "d", "y"]


def test_masks_and_positions_run_beside_the_trunk() -> None:
    text = (
        "net (float[n, 8] x, float[n, 8] m) => (float[n, 8] y) { k = Relu(m) a = MatMul(x, Q) b = Mul(a, k) c = MatMul(b, K) d = Mul(c, k) y = MatMul(d, V) }"
    )
    assert trunk(drawn(text, SQUARES)) == ["b", "d", "y"]


def test_values_are_spread_evenly_and_the_last_stays() -> None:
    assert evenly(list("abcdefghij"), 3) == ["c", "f", "j"]
    assert evenly(["a", "b"], 3) == ["a", "b"]


@pytest.mark.parametrize(("text", "name", "reads"), [(ATTENDS, "a", ["q", "k", "v"]), (SOFTMAX, "m", ["m"])])
def test_attention_is_found_as_one_operator_and_as_a_softmax_between_products(text: str, name: str, reads: list[str]) -> None:
    (place,) = attentions(settled(drawn(text, SQUARES)))
    assert (place.name, place.reads) == (name, reads)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ("y = MatMul(x, Q)", "logits"),
        ("a = MatMul(x, Q) y = Add(a, B)", "logits"),
        ("a = MatMul(x, Q) y = Softmax(a)", "probabilities"),
        ("a = MatMul(x, Q) y = LpNormalization(a)", "numbers"),
        ("a = MatMul(x, Q) y = Tanh(a)", "numbers"),
        ("y = MatMul(x, C)", "numbers"),
    ],
)
def test_what_an_output_holds_is_told_by_what_makes_it(body: str, kind: str) -> None:
    width = 1 if "C" in body else 8
    model = drawn(f"net (float[n, 8] x) => (float[n, {width}] y) {{ {body} }}", {"Q": (8, 8), "B": (8,), "C": (8, 1)})
    assert score_outputs(settled(model)) == {"y": kind}


def test_inner_values_are_matched_by_name_and_outputs_are_no_inner_values() -> None:
    model = drawn(NET, WEIGHTS)
    aims = Aims.of(model, model, "auto", "mse", False, False, 2.0)
    assert (dict(aims.outputs), list(aims.hidden)) == ({"y": "logits"}, ["c", "f", "i"])
    assert not Aims.of(model, model, "auto", "none", False, False, 2.0).hidden
