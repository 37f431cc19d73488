"""Architectures that nothing in this project was developed on, with random weights: what a new user brings.

    for stranger in strangers():
        path = stranger.export(folder)
        samples = list(stranger.feeds(8))

Twelve come from `transformers` configurations, eight are modules as people write them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .exporting import dynamo
from .tiny import SMALL, Tiny
from .tiny_inputs import Kind

SEED = 23
EAGER = ("mpnet", "squeezebert")
"""Those that transformers has no other attention for."""
Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Stranger:
    """One of them: how it is exported, and ``feeds(count)`` made-up inputs."""

    name: str
    export: Callable[[Path], Path]
    feeds: Callable[[int], Iterator[dict[str, np.ndarray]]]


def strangers() -> tuple[Stranger, ...]:
    """All twenty."""
    return (*(_of_tiny(tiny) for tiny in _configured()), *(_of_module(name, shapes) for name, shapes in MODULES.items()))


def _of_tiny(tiny: Tiny) -> Stranger:
    attention = "eager" if tiny.name in EAGER else "sdpa"
    return Stranger(tiny.name, lambda folder: tiny.export(folder, attention=attention), tiny.feeds)


def _configured() -> Iterator[Tiny]:
    text = {
        "hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 96, "vocab_size": SMALL.vocabulary,
        "max_position_embeddings": SMALL.positions,
    }  # fmt: skip
    special = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    vision = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 96, "image_size": 32, "patch_size": 8}
    fixed = frozenset({"batch"})
    kinds: Mapping[str, tuple[Kind, str, Mapping[str, object], str]] = {
        "albert": ("text", "AlbertModel", {**text, "embedding_size": 24}, "last_hidden_state"),
        "electra": ("text", "ElectraModel", {**text, "embedding_size": 24}, "last_hidden_state"),
        "mpnet": ("text", "MPNetModel", text, "last_hidden_state"),
        "squeezebert": ("text", "SqueezeBertModel", {**text, "embedding_size": 48}, "last_hidden_state"),
        "opt": ("tokens", "OPTForCausalLM", {
            **special, "hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "ffn_dim": 96, "vocab_size": SMALL.vocabulary,
            "max_position_embeddings": SMALL.positions, "word_embed_proj_dim": 48,
        }, "logits"),
        "gpt_neox": ("tokens", "GPTNeoXForCausalLM", {**text, **special}, "logits"),
        "phi": ("tokens", "PhiForCausalLM", {**text, **special}, "logits"),
        "gemma": ("tokens", "GemmaForCausalLM", {**text, **special, "num_key_value_heads": 1, "head_dim": 12}, "logits"),
    }  # fmt: skip
    for name, (kind, model, settings, output) in kinds.items():
        yield Tiny(name, kind, model, settings, output, free=fixed if kind == "tokens" else frozenset({"batch", "length"}))
    yield Tiny("deit", "pixels", "DeiTModel", vision, attends=False)
    yield Tiny("regnet", "pixels", "RegNetModel", {
        "embedding_size": 16, "hidden_sizes": [16, 32, 48, 64], "depths": [1, 1, 1, 1], "groups_width": 8,
    }, "pooler_output", attends=False)  # fmt: skip
    yield Tiny("poolformer", "pixels", "PoolFormerModel", {
        "hidden_sizes": [16, 32, 48, 64], "depths": [1, 1, 1, 1],
    }, attends=False)  # fmt: skip
    yield Tiny("dinov2", "pixels", "Dinov2Model", {
        "hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "mlp_ratio": 2, "image_size": 32, "patch_size": 8,
    }, attends=False)  # fmt: skip


MODULES: Mapping[str, Shapes] = {
    "u_net": {"pixels": (2, 3, 32, 32)},
    "lstm_tagger": {"steps": (2, 11, 24)},
    "temporal_convolutions": {"signal": (2, 8, 40)},
    "mlp_mixer": {"pixels": (2, 3, 32, 32)},
    "depthwise_separable": {"pixels": (2, 3, 32, 32)},
    "grouped_shuffle": {"pixels": (2, 3, 32, 32)},
    "cross_attention": {"queries": (2, 9, 32), "memory": (2, 13, 32)},
    "volume": {"voxels": (2, 1, 8, 12, 12)},
}
"""Module -> the shapes of its inputs."""


def _of_module(name: str, shapes: Shapes) -> Stranger:
    def export(folder: Path) -> Path:
        import torch

        from .strange_modules import modules

        torch.manual_seed(SEED)
        return dynamo(modules()[name]().eval(), tuple(torch.zeros(shape) for shape in shapes.values()), folder / f"{name}.onnx")

    def feeds(count: int) -> Iterator[dict[str, np.ndarray]]:
        random = np.random.default_rng(SEED)
        for _ in range(count):
            yield {port: random.standard_normal(shape).astype(np.float32) for port, shape in shapes.items()}

    return Stranger(name, export, feeds)
