"""Losses are 0 where both sides agree, grow as they part, do not mind what they promise not to mind, and have right gradients."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import onnx.parser
import onnx.reference
import onnx_ir as ir
import pytest

from graphwright.passes.recover.losses.attention import attention_map, map_loss, relation_loss
from graphwright.passes.recover.losses.hidden import alignment, hidden_loss
from graphwright.passes.recover.losses.outputs import cosine, divergence, relative_error, reverse_divergence, similarity
from graphwright.passes.recover.matching import attentions

torch = pytest.importorskip("torch")

ROWS: dict[str, Callable[..., torch.Tensor]] = {
    "kl": lambda a, b: divergence(a, b, 2.0, False), "reverse-kl": lambda a, b: reverse_divergence(a, b, 2.0, False), "mse": relative_error,
    "cosine": cosine, "similarity": similarity, "cka": alignment,
}  # fmt: skip


def rows(seed: int, *shape: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape))


@pytest.mark.parametrize("loss", ROWS.values(), ids=ROWS)
def test_a_loss_is_zero_for_the_same_grows_with_the_difference_and_has_the_right_gradient(loss: Callable[..., torch.Tensor]) -> None:
    teacher, noise = rows(0, 6, 5), rows(1, 6, 5)
    near, far = loss(teacher + 0.05 * noise, teacher), loss(teacher + noise, teacher)
    assert abs(float(loss(teacher, teacher))) < 1e-9
    assert 0 < float(near) < 0.2 * float(far)
    student = (teacher + noise).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: loss(x, teacher), (student,))


def test_probabilities_are_compared_as_the_scores_they_come_from() -> None:
    student, teacher = rows(0, 6, 5), rows(1, 6, 5)
    scores = divergence(student, teacher, 3.0, False)
    chances = divergence(torch.softmax(student, -1), torch.softmax(teacher, -1), 3.0, True)
    torch.testing.assert_close(scores, chances)


def test_divergence_is_that_of_torch() -> None:
    student, teacher = rows(0, 6, 5), rows(1, 6, 5)
    logs = torch.log_softmax(student, -1), torch.log_softmax(teacher, -1)
    wanted = torch.nn.functional.kl_div(*logs, reduction="batchmean", log_target=True)
    torch.testing.assert_close(divergence(student, teacher, 1.0, False), wanted)
    torch.testing.assert_close(reverse_divergence(teacher, student, 1.0, False), wanted)


def test_the_error_of_the_mean_row_is_one() -> None:
    teacher = rows(0, 50, 5)
    assert float(relative_error(teacher.mean(0).expand(50, 5), teacher)) == pytest.approx(1)


def test_alignment_does_not_mind_turning_scaling_or_width() -> None:
    teacher = rows(0, 40, 6)
    turn = torch.linalg.qr(rows(1, 6, 6))[0]
    assert float(alignment(3 * teacher @ turn + 1, teacher)) == pytest.approx(0, abs=1e-9)
    wide = torch.cat([teacher, 0 * teacher], dim=1)
    assert float(alignment(wide, teacher)) == pytest.approx(0, abs=1e-9)
    assert float(alignment(rows(2, 40, 3), teacher)) > 0.5


def test_hidden_states_of_another_width_are_aligned_and_others_left_out() -> None:
    teacher = rows(0, 4, 8, 5, 5)
    assert hidden_loss(rows(1, 4, 6, 5, 5), teacher, "mse") is not None
    assert hidden_loss(rows(1, 4, 6, 4, 5), teacher, "mse") is None
    assert float(hidden_loss(teacher, teacher, "mse")) == 0


def attends(heads: int, width: int, extra: str = "") -> tuple[object, dict[str, torch.Tensor]]:
    text = f"""<ir_version: 10, opset_import: ["" : 23]> g (float[2, 4, {heads * width}] q, float[2, 4, {heads * width}] k, float[2, 4, {heads * width}] v)
        => (float[2, 4, {heads * width}] y) {{ y = Attention<q_num_heads = {heads}, kv_num_heads = {heads}{extra}>(q, k, v) }}"""
    (place,) = attentions(ir.from_proto(onnx.parser.parse_model(text)))
    return place, {name: rows(seed, 2, 4, heads * width).float() for seed, name in enumerate("qkv")}


@pytest.mark.parametrize("extra", ["", ", is_causal = 1", ", scale = 0.7"])
def test_an_attention_map_is_what_the_operator_multiplies_values_by(extra: str) -> None:
    place, values = attends(2, 3, extra)
    found = attention_map(place, values) @ values["v"].unflatten(-1, (2, -1)).transpose(1, 2)
    proto = onnx.parser.parse_model(f"""<ir_version: 10, opset_import: ["" : 23]> g (float[2, 4, 6] q, float[2, 4, 6] k, float[2, 4, 6] v) => (float[2, 4, 6] y)
        {{ y = Attention<q_num_heads = 2, kv_num_heads = 2{extra}>(q, k, v) }}""")
    wanted = onnx.reference.ReferenceEvaluator(proto).run(None, {name: item.numpy() for name, item in values.items()})[0]
    np.testing.assert_allclose(found.transpose(1, 2).flatten(2).numpy(), wanted, rtol=1e-5, atol=1e-6)


def test_maps_and_relations_are_compared_although_heads_are_gone() -> None:
    (ours, small), (theirs, large) = attends(2, 3), attends(4, 3)
    assert float(map_loss(attention_map(theirs, large), attention_map(theirs, large))) == 0
    assert 0 < float(map_loss(attention_map(ours, small), attention_map(theirs, large))) < 1
    assert float(relation_loss(theirs, theirs, large, large)) == pytest.approx(0, abs=1e-6)
    assert float(relation_loss(ours, theirs, small, large)) > 0
