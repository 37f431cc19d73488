"""Tiny transformers of many families with random weights: the graphs users bring, at the size of a test.

    path = find_tiny("llama").export(folder)                      # torch's current exporter, dynamic shapes
    path = find_tiny("bert").export(folder, exporter="torchscript")
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from ..compiler.core.errors import InputError
from .exporting import dynamo, quiet, torchscript

if TYPE_CHECKING:
    import torch

Exporter = Literal["dynamo", "torchscript"]
Kind = Literal["text", "tokens", "pixels", "sound", "text and pixels"]
NEW_ONLY: tuple[Exporter, ...] = ("dynamo",)
"""The older exporter has no aten::diff, which transformers 5 builds causal masks with."""
SEED = 11
VOCABULARY = 99
PIXELS, FRAMES = 32, 64
TEXT = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64, "vocab_size": VOCABULARY, "max_position_embeddings": 64,
}  # fmt: skip
DECODER = {**TEXT, "num_key_value_heads": 2, "head_dim": 8, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
VISION = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64, "image_size": PIXELS, "patch_size": 8}


@dataclass(frozen=True)
class Tiny:
    """One family: its ``transformers`` class and configuration, what it is fed, and the output that counts."""

    name: str
    kind: Kind
    model: str
    settings: Mapping[str, object]
    output: str = "last_hidden_state"
    part: str = ""
    attends: bool = True
    exporters: tuple[Exporter, ...] = ("dynamo", "torchscript")

    def module(self, attention: str = "sdpa") -> torch.nn.Module:
        """The network in eval mode, taking its inputs by position and returning one tensor; the same weights on every call."""
        import torch
        import transformers

        configuration = getattr(transformers, f"{re.sub('(LMHead)?Model$|ForCausalLM$', '', self.model)}Config")
        chosen = {"attn_implementation": attention} if self.attends else {}
        with quiet(), torch.random.fork_rng():
            torch.manual_seed(SEED)
            whole = getattr(transformers, self.model)(configuration(**self.settings, **chosen)).eval()
        network = getattr(whole, self.part) if self.part else whole
        return _wrapped(network, self.kind, self.output).eval().requires_grad_(False)

    def inputs(self, batch: int = 2, length: int = 7, seed: int = 0) -> dict[str, torch.Tensor]:
        """What it is fed, by name; ``length`` counts tokens."""
        import torch

        return {name: torch.from_numpy(array) for name, array in _arrays(self.kind, batch, length, seed).items()}

    def feeds(self, count: int) -> Iterator[dict[str, np.ndarray]]:
        """``count`` different inputs as arrays, of different batch and length."""
        for index in range(count):
            yield _arrays(self.kind, 1 + index % 3, (7, 1, 16)[index % 3], index)

    def export(
        self, folder: Path, exporter: Exporter = "dynamo", *, dynamic: bool = True, optimize: bool = True, attention: str = "sdpa",
    ) -> Path:  # fmt: skip
        """Write the ONNX file and return its path; ``dynamic`` leaves batch and length free."""
        path = folder / f"{self.name}_{exporter}.onnx"
        inputs = self.inputs()
        args, axes = tuple(inputs.values()), {name: _axes(name) for name in inputs}
        if exporter == "torchscript":
            named = {**axes, "output": {0: "batch"}}
            return torchscript(self.module("eager"), args, path, inputs=list(inputs), outputs=["output"], dynamic_axes=named if dynamic else None)
        return dynamo(self.module(attention), args, path, dynamic_shapes=_free(axes) if dynamic else None, optimize=optimize)


FAMILIES = (
    Tiny("bert", "text", "BertModel", TEXT),
    Tiny("roberta", "text", "RobertaModel", {**TEXT, "pad_token_id": 1}),
    Tiny("distilbert", "text", "DistilBertModel", {
        "dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64, "vocab_size": VOCABULARY, "max_position_embeddings": 64,
    }),
    Tiny("t5_encoder", "text", "T5Model", {
        "d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4, "vocab_size": VOCABULARY,
    }, part="encoder"),
    Tiny("gpt2", "tokens", "GPT2LMHeadModel", {
        "n_embd": 32, "n_layer": 2, "n_head": 4, "vocab_size": VOCABULARY, "n_positions": 64, "bos_token_id": 1, "eos_token_id": 2,
    }, "logits", exporters=NEW_ONLY),
    Tiny("llama", "tokens", "LlamaForCausalLM", DECODER, "logits", exporters=NEW_ONLY),
    Tiny("qwen3", "tokens", "Qwen3ForCausalLM", DECODER, "logits", exporters=NEW_ONLY),
    Tiny("mistral", "tokens", "MistralForCausalLM", {**DECODER, "sliding_window": None}, "logits", exporters=NEW_ONLY),
    Tiny("vit", "pixels", "ViTModel", VISION),
    Tiny("convnext", "pixels", "ConvNextModel", {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1]}, "pooler_output", attends=False),
    Tiny("whisper_encoder", "sound", "WhisperModel", {
        "d_model": 32, "encoder_layers": 2, "decoder_layers": 1, "encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 64,
        "decoder_ffn_dim": 64, "num_mel_bins": 16, "max_source_positions": FRAMES // 2, "max_target_positions": 16, "vocab_size": VOCABULARY,
        "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1,
    }, part="encoder"),
    Tiny("clip", "text and pixels", "CLIPModel", {
        "text_config": {**TEXT, "bos_token_id": 1, "eos_token_id": 2}, "vision_config": VISION, "projection_dim": 16,
    }, "logits_per_image"),
)  # fmt: skip


def find_tiny(name: str) -> Tiny:
    """The family of that name. Raises InputError listing the names."""
    families = {tiny.name: tiny for tiny in FAMILIES}
    if name not in families:
        raise InputError(f"there is no tiny '{name}'; there are: {', '.join(families)}")
    return families[name]


def _arrays(kind: Kind, batch: int, length: int, seed: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    ids = random.integers(3, VOCABULARY, (batch, length))
    mask = (np.arange(length) < random.integers(1, length + 1, (batch, 1))).astype(np.int64)
    pixels = random.standard_normal((batch, 3, PIXELS, PIXELS)).astype(np.float32)
    if kind == "tokens":
        return {"input_ids": ids}
    if kind == "text":
        return {"input_ids": ids, "attention_mask": mask}
    if kind == "pixels":
        return {"pixel_values": pixels}
    if kind == "sound":
        return {"input_features": random.standard_normal((batch, 16, FRAMES)).astype(np.float32)}
    return {"input_ids": ids, "pixel_values": pixels, "attention_mask": mask}


def _axes(name: str) -> dict[int, str]:
    return {0: "batch", 1: "length"} if name in ("input_ids", "attention_mask") else {0: "batch"}


def _free(axes: dict[str, dict[int, str]]) -> tuple[dict[int, object], ...]:
    import torch

    dims = {"batch": torch.export.Dim("batch"), "length": torch.export.Dim("length", max=64)}
    return tuple({axis: dims[name] for axis, name in free.items()} for free in axes.values())


def _wrapped(network: torch.nn.Module, kind: Kind, output: str) -> torch.nn.Module:
    """The network with exactly the inputs of its kind, in order, and one output."""
    import torch

    class Wrapped(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def pick(self, **inputs: object) -> torch.Tensor:
            return getattr(self.network(**inputs), output)

    class Text(Wrapped):
        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            return self.pick(input_ids=input_ids, attention_mask=attention_mask)

    class Tokens(Wrapped):
        def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
            return self.pick(input_ids=input_ids, use_cache=False)

    class Pixels(Wrapped):
        def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
            return self.pick(pixel_values=pixel_values)

    class Sound(Wrapped):
        def forward(self, input_features: torch.Tensor) -> torch.Tensor:
            return self.pick(input_features=input_features)

    class Both(Wrapped):
        def forward(self, input_ids: torch.Tensor, pixel_values: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            return self.pick(input_ids=input_ids, pixel_values=pixel_values, attention_mask=attention_mask)

    kinds = {"text": Text, "tokens": Tokens, "pixels": Pixels, "sound": Sound, "text and pixels": Both}
    return kinds[kind]()
