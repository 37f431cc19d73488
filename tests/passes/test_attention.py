"""Attention and rotary embeddings of whole exports end up in one operator each, and every row keeps its numbers."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

import graphwright
from graphwright.compiler.core.engine import apply_rules
from graphwright.compiler.core.graph import bind_opsets
from graphwright.compiler.core.passes import Context
from graphwright.compiler.core.rule import Rule
from graphwright.compiler.core.shapes import infer_shapes
from graphwright.compiler.core.target import Target
from graphwright.models.session import Plain, only
from graphwright.models.tiny import Exporter, find_tiny
from graphwright.passes.fusion.attention import fuse_attention, fuse_masked_attention
from graphwright.passes.raising.attention import raise_attention
from graphwright.passes.raising.attention_heads import merge_attention_heads, share_attention_heads

ATTENTION = ("Attention", "MultiHeadAttention")
LAYERS = {"clip": 4}
ROTARY = {"llama": 4, "qwen3": 4, "mistral": 4}
QUICK = [("bert", "dynamo"), ("llama", "torchscript"), ("vit", "dynamo")]
SLOW = [
    (name, exporter)
    for name in ("bert", "distilbert", "gpt2", "llama", "qwen3", "mistral", "vit", "t5_encoder", "whisper_encoder", "clip")
    for exporter in ("dynamo", "torchscript")
    if (name, exporter) not in QUICK
]
CPU = Target("cpu", "ort", kernels=frozenset({"com.microsoft::MultiHeadAttention", "com.microsoft::Attention"}))
LOWEST = float(np.finfo(np.float32).min)
QKV = "float[2,2,3,4] q, float[2,2,5,4] k, float[2,2,5,4] v"
SMALL = "int8[2,2,3,4] qi, int8[2,2,5,4] ki, int8[2,2,5,4] vi"
CAST = "q = Cast<to=1>(qi) k = Cast<to=1>(ki) v = Cast<to=1>(vi)"
SCORES = "t = Transpose<perm=[0,1,3,2]>(k) m = MatMul(q, t)"


def optimized(name: str, exporter: Exporter, folder: Path, target: str) -> tuple[Path, onnx.ModelProto]:
    path = find_tiny(name).export(folder, exporter)
    return path, graphwright.optimize(str(path), target=target)


def check_family(name: str, exporter: Exporter, folder: Path) -> None:
    """One attention operator a layer, one rotary embedding for Q and one for K, and the numbers of the export."""
    path, model = optimized(name, exporter, folder, "ort-cpu")
    found = Counter(node.op_type for node in model.graph.node)
    assert sum(found[kind] for kind in ATTENTION) == LAYERS.get(name, 2), found
    assert found["RotaryEmbedding"] == ROTARY.get(name, 0), found
    assert found["Softmax"] == 0
    new = folder / "new.onnx"
    onnx.save(model, new)
    for feed in find_tiny(name).feeds(3):
        np.testing.assert_allclose(only(Plain(new).run(feed)), only(Plain(path).run(feed)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("name", "exporter"), QUICK)
def test_every_layer_of_a_family_has_one_attention(name: str, exporter: Exporter, tmp_path: Path) -> None:
    check_family(name, exporter, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "exporter"), SLOW)
def test_every_layer_of_every_other_family_has_one_attention(name: str, exporter: Exporter, tmp_path: Path) -> None:
    if exporter not in find_tiny(name).exporters:
        pytest.skip(f"{name} has no {exporter} export")
    check_family(name, exporter, tmp_path)


def test_the_portable_target_gets_standard_operators_only(tmp_path: Path) -> None:
    _, model = optimized("llama", "torchscript", tmp_path, "onnx")
    found = Counter((node.domain, node.op_type) for node in model.graph.node)
    assert found["", "Attention"] == 2 and found["", "RotaryEmbedding"] == 4
    assert {domain for domain, _ in found} == {""}


def test_grouped_heads_are_not_repeated(tmp_path: Path) -> None:
    _, model = optimized("llama", "torchscript", tmp_path, "onnx")
    heads = [{item.name: item.i for item in node.attribute} for node in model.graph.node if node.op_type == "Attention"]
    assert [(item["q_num_heads"], item["kv_num_heads"]) for item in heads] == [(4, 2), (4, 2)]


def rewritten(text: str, *rules: Rule) -> tuple[ir.Model, ir.Model, int]:
    before, model = (ir.from_onnx_text('<ir_version: 10, opset_import: ["" : 21]>\n' + text) for _ in range(2))
    for item in (before, model):
        bind_opsets(item)
        infer_shapes(item)
    return before, model, apply_rules(model, list(rules), Context(CPU))


def run(model: ir.Model, feeds: dict[str, np.ndarray], folder: Path) -> np.ndarray:
    path = folder / "model.onnx"
    ir.save(model, path)
    return only(Plain(path).run(feeds))


def small(seed: int, *names: str) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    return {name: random.integers(-4, 5, (2, 2, 3 if name == "qi" else 5, 4)).astype(np.int8) for name in names}


@pytest.mark.parametrize("hidden", ["all", "none", "some"])
def test_rows_that_see_nothing_keep_the_mean_of_v(hidden: str, tmp_path: Path) -> None:
    """The kernel of the standard operator would give zeros where every key is hidden by the lowest number."""
    text = (
        f"g ({SMALL}, bool[2,1,3,5] seen) => (float[2,2,3,4] y) <float z = {{0}}, float low = {{{LOWEST!r}}}>"
        f" {{ {CAST} {SCORES} a = Where(seen, z, low) s = Add(m, a) p = Softmax(s) y = MatMul(p, v) }}"
    )
    before, model, count = rewritten(text, raise_attention)
    assert count == 1
    seen = np.random.default_rng(3).integers(0, 2, (2, 1, 3, 5)).astype(bool)
    seen[:, :, 0] = hidden == "none" if hidden != "some" else seen[:, :, 0]
    feeds = {**small(1, "qi", "ki", "vi"), "seen": np.zeros_like(seen) if hidden == "all" else seen}
    np.testing.assert_allclose(run(model, feeds, tmp_path), run(before, feeds, tmp_path), rtol=1e-5, atol=1e-6)


def test_guarded_rows_that_see_nothing_stay_zero(tmp_path: Path) -> None:
    text = (
        f"g ({SMALL}, bool[2,1,3,5] seen) => (float[2,2,3,4] y) <float z = {{0}}, float low = {{-inf}}>"
        f" {{ {CAST} {SCORES} s = Where(seen, m, low) p = Softmax(s) n = IsNaN(p) w = Where(n, z, p) y = MatMul(w, v) }}"
    )
    before, model, count = rewritten(text, raise_attention)
    assert count == 1
    seen = np.random.default_rng(3).integers(0, 2, (2, 1, 3, 5)).astype(bool)
    seen[0, 0, 1] = False
    feeds = {**small(2, "qi", "ki", "vi"), "seen": seen}
    expected = run(before, feeds, tmp_path)
    assert not expected[0, :, 1].any()
    np.testing.assert_allclose(run(model, feeds, tmp_path), expected, rtol=1e-5, atol=1e-6)


def test_a_mask_that_may_hide_whole_rows_goes_to_the_kernel_that_does_what_a_softmax_does(tmp_path: Path) -> None:
    text = (
        f"g ({QKV}, float[2,1,3,5] mask) => (float[2,3,8] y) <int64[3] r = {{0,0,8}}>"
        f" {{ {SCORES} s = Add(m, mask) p = Softmax(s) o = MatMul(p, v) t2 = Transpose<perm=[0,2,1,3]>(o) y = Reshape(t2, r) }}"
    )
    before, model, count = rewritten(text, raise_attention, merge_attention_heads, fuse_attention, fuse_masked_attention)
    assert count == 1
    assert any(node.op_type == "MultiHeadAttention" for node in model.graph)
    random = np.random.default_rng(0)
    for hidden in (LOWEST, -np.inf):
        feeds = {value.name: random.normal(size=value.shape.numpy()).astype(np.float32) for value in model.graph.inputs}
        feeds["mask"][0, 0, 1] = hidden
        np.testing.assert_allclose(run(model, feeds, tmp_path), run(before, feeds, tmp_path), rtol=1e-5, atol=1e-6)


def test_heads_that_are_repeated_in_another_order_are_left_alone() -> None:
    """Tiling [h0, h1] gives h0 h1 h0 h1, not the h0 h0 h1 h1 that grouped heads mean."""
    text = (
        "g (float[2,4,3,4] q, float[2,2,5,4] k, float[2,2,5,4] v) => (float[2,4,3,4] y) <int64[4] e = {1,2,1,1}>"
        " { kr = Tile(k, e) vr = Tile(v, e) t = Transpose<perm=[0,1,3,2]>(kr) m = MatMul(q, t) p = Softmax(m) y = MatMul(p, vr) }"
    )
    _, model, count = rewritten(text, raise_attention, share_attention_heads)
    assert count == 1
    assert sum(node.op_type == "Tile" for node in model.graph) == 2
