"""Layers are found by what repeats along the trunk, whatever it is called; shares by outliers are one for each of them."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from graphwright.compiler.core.sites import all_sites
from graphwright.passes.prune.layers import layers_of
from graphwright.passes.prune.unstructured.owl import by_layer, outlying, owl

from .pruned_models import model_of

PART = """ q{i} = MatMul(h{i}, Q{i}) k{i} = MatMul(h{i}, K{i}) s{i} = Mul(q{i}, k{i}) o{i} = MatMul(s{i}, O{i}) m{i} = Add(h{i}, o{i})
 u{i} = MatMul(m{i}, U{i}) r{i} = Relu(u{i}) d{i} = MatMul(r{i}, D{i}) h{j} = Add(m{i}, d{i})"""
GIVEN = "float[16, 20] Q{i}, float[16, 20] K{i}, float[20, 16] O{i}, float[16, 48] U{i}, float[48, 16] D{i}"


def deep(layers: int) -> ir.Model:
    given = ", ".join(GIVEN.format(i=place) for place in range(layers))
    body = "".join(PART.format(i=place, j=place + 1) for place in range(layers))
    return model_of(f"m (float[N, 12] x, float[12, 16] E, {given}, float[16, 9] H) => (float[N, 9] y) {{ h0 = MatMul(x, E){body} y = MatMul(h{layers}, H) }}")


@pytest.mark.parametrize("layers", [3, 5])
def test_attention_and_feed_forward_are_one_layer(layers: int) -> None:
    model = deep(layers)
    sites = [site for site in all_sites(model) if site.name not in ("h0", "y")]
    found = layers_of(model, sites)
    assert found == {f"{name}{place}": place for place in range(layers) for name in "qkoud"}


def test_where_nothing_repeats_each_part_of_the_trunk_is_one() -> None:
    given = "m (float[N, 8] x, float[8, 16] A, float[16, 24] B, float[24, 5] C) => (float[N, 5] y)"
    model = model_of(f"{given} {{ a = MatMul(x, A) b = MatMul(a, B) y = MatMul(b, C) }}")
    assert layers_of(model, list(all_sites(model))) == {"a": 0, "b": 1, "y": 2}


def test_outliers_are_those_of_all_of_a_layer_together() -> None:
    random = np.random.default_rng(0)
    metrics = {name: np.abs(random.normal(size=(20, 30))) for name in "abcd"}
    metrics["a"] *= 30
    found = by_layer(metrics, {"a": 0, "b": 0, "c": 1, "d": 1})
    assert found["a"] == found["b"] == outlying(np.stack([metrics["a"], metrics["b"]]))
    shares = owl(found, dict.fromkeys("abcd", 600), 0.6)
    assert shares["a"] == shares["b"] < 0.6 < shares["c"] == shares["d"]
