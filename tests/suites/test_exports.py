"""What torch exports, both ways, is found again: every attention, norm, rotary embedding and activation of the architecture, and the numbers stay.

What an exporter's spelling still hides is listed in `GAPS`, by name; nothing else may be missing.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest

import graphwright
from graphwright.models.session import Plain, only
from graphwright.models.tiny import FAMILIES, Exporter, Scale, Tiny, find_tiny

QUICK = ("bert", "llama", "swin", "efficientnet")
KINDS: dict[str, frozenset[str]] = {
    "attention": frozenset({"Attention", "MultiHeadAttention", "GroupQueryAttention", "DecoderMaskedMultiHeadAttention"}),
    "layer norm": frozenset({"LayerNormalization", "SkipLayerNormalization", "EmbedLayerNormalization"}),
    "rms norm": frozenset({"RMSNormalization", "SimplifiedLayerNormalization", "SkipSimplifiedLayerNormalization"}),
    "rotary": frozenset({"RotaryEmbedding"}),
    "gelu": frozenset({"Gelu", "BiasGelu", "FastGelu"}),
    "swish": frozenset({"Swish", "QuickGelu"}),
    "softplus": frozenset({"Softplus"}),
}
"""What is counted, and the operators that are each one of it."""
ABSENT = {"batch norm": frozenset({"BatchNormalization"}), "relu of a conv": frozenset({"Relu", "Clip"}), "softmax": frozenset({"Softmax"})}
"""What must have gone into its neighbour."""


def transformer(scale: Scale, **more: int) -> dict[str, int]:
    return {"attention": scale.layers, **more}


def swin(scale: Scale) -> dict[str, int]:
    """Two norms in each of 4 blocks; one after the patches are embedded, one where two stages meet, one at the end."""
    return {"attention": 4, "layer norm": 2 * 4 + 3, "gelu": 4}


def segformer(scale: Scale) -> dict[str, int]:
    """Two norms a block and one where keys are thinned out (all stages but the last); one for each stage's patches, and one at its end."""
    blocks = sum(scale.stages)
    norms = 2 * blocks + sum(scale.stages[:-1]) + 2 * len(scale.stages)
    return {"attention": blocks, "layer norm": norms, "gelu": blocks, "batch norm": 0}


def convnext(scale: Scale) -> dict[str, int]:
    """One norm a block, one before each stage, one at the end."""
    blocks = sum(scale.stages)
    return {"layer norm": blocks + len(scale.stages) + 1, "gelu": blocks}


def efficientnet(scale: Scale) -> dict[str, int]:
    """Stem and top; in each of 10 blocks one after the depthwise convolution, one in the squeeze, and one after the expansion, which the first has not."""
    return {"swish": 2 + 10 + 10 + 9, "batch norm": 0}


EXPECTED: Mapping[str, Callable[[Scale], dict[str, int]]] = {
    "bert": lambda s: transformer(s, **{"layer norm": 2 * s.layers + 1, "gelu": s.layers, "softmax": 0}),
    "roberta": lambda s: transformer(s, **{"layer norm": 2 * s.layers + 1, "gelu": s.layers, "softmax": 0}),
    "distilbert": lambda s: transformer(s, **{"layer norm": 2 * s.layers + 1, "gelu": s.layers, "softmax": 0}),
    "t5_encoder": lambda s: transformer(s, **{"rms norm": 2 * s.layers + 1, "softmax": 0}),
    "t5_decoder": lambda s: {"attention": 2 * s.layers, "rms norm": 3 * s.layers + 1, "softmax": 0},
    "gpt2": lambda s: transformer(s, **{"layer norm": 2 * s.layers + 1, "gelu": s.layers, "softmax": 0}),
    "llama": lambda s: transformer(s, **{"rms norm": 2 * s.layers + 1, "rotary": 2 * s.layers, "swish": s.layers, "softmax": 0}),
    "qwen3": lambda s: transformer(s, **{"rms norm": 4 * s.layers + 1, "rotary": 2 * s.layers, "swish": s.layers, "softmax": 0}),
    "mistral": lambda s: transformer(s, **{"rms norm": 2 * s.layers + 1, "rotary": 2 * s.layers, "swish": s.layers, "softmax": 0}),
    "mamba": lambda s: {"rms norm": s.layers + 1, "swish": 2 * s.layers, "softplus": s.layers},
    "vit": lambda s: transformer(s, **{"layer norm": 2 * s.layers + 1, "gelu": s.layers, "softmax": 0}),
    "swin": swin,
    "segformer": segformer,
    "convnext": convnext,
    "resnet": lambda s: {"batch norm": 0, "relu of a conv": 0},
    "mobilenetv2": lambda s: {"batch norm": 0, "relu of a conv": 0},
    "efficientnet": efficientnet,
    "whisper_encoder": lambda s: transformer(s, **{"layer norm": 2 * s.layers + 1, "gelu": s.layers + 2, "softmax": 0}),
    "whisper_decoder": lambda s: {"attention": 2 * s.layers, "layer norm": 3 * s.layers + 1, "gelu": s.layers, "softmax": 0},
    "clip": lambda s: {"attention": 2 * s.layers, "layer norm": 4 * s.layers + 3, "swish": 2 * s.layers, "softmax": 0},
}

GAPS: Mapping[tuple[str, Exporter], tuple[str, ...]] = {
    ("segformer", "dynamo"): ("attention",),
}
"""What is not found yet, for each family and exporter: one attention of SegFormer, with a single head."""

CASES = [pytest.param(tiny, exporter, id=f"{tiny.name}-{exporter}") for tiny in FAMILIES for exporter in tiny.exporters]
MARKED = [case if case.values[0].name in QUICK else pytest.param(*case.values, id=case.id, marks=pytest.mark.slow) for case in CASES]  # type: ignore[attr-defined]


def exported(tiny: Tiny, exporter: Exporter) -> onnx.ModelProto:
    with tempfile.TemporaryDirectory() as folder:
        return onnx.load(tiny.export(Path(folder), exporter))


def found(model: onnx.ModelProto) -> dict[str, int]:
    """How many there are of each kind. A GroupQueryAttention that rotates does so with Q and with K."""
    operators: Counter[str] = Counter()
    for graph in graphs(model.graph):
        for node in graph.node:
            operators[node.op_type] += 1
            operators["RotaryEmbedding"] += 2 * any(item.name == "do_rotary" and item.i for item in node.attribute)
    return {kind: sum(operators[name] for name in names) for kind, names in {**KINDS, **ABSENT}.items()}


def graphs(graph: onnx.GraphProto) -> list[onnx.GraphProto]:
    inner = [item.g for node in graph.node for item in node.attribute if item.HasField("g")]
    return [graph, *(below for item in inner for below in graphs(item))]


@pytest.mark.parametrize(("tiny", "exporter"), MARKED)
def test_every_part_of_the_architecture_is_found_and_the_numbers_stay(tiny: Tiny, exporter: Exporter) -> None:
    before = exported(tiny, exporter)
    after = graphwright.optimize(before, target="ort-cpu")
    runners = [Plain(model.SerializeToString()) for model in (before, after)]
    for feed in tiny.feeds(4):
        expected, numbers = (only(runner.run(feed)) for runner in runners)
        np.testing.assert_allclose(numbers, expected, rtol=1e-4, atol=1e-5 * max(1.0, float(np.abs(expected).max())))
    wanted, counts = EXPECTED[tiny.name](tiny.scale), found(after)
    missing = GAPS.get((tiny.name, exporter), ())
    assert {kind: counts[kind] for kind in wanted if kind not in missing} == {kind: count for kind, count in wanted.items() if kind not in missing}


def test_every_family_says_what_it_consists_of() -> None:
    assert set(EXPECTED) == {tiny.name for tiny in FAMILIES}
    assert all(set(kinds) <= set(EXPECTED[name](find_tiny(name).scale)) for (name, _), kinds in GAPS.items())
