"""Small networks of many families with random weights: the graphs users bring, at the size of a test.

    path = find_tiny("llama").export(folder)                      # torch's current exporter, dynamic shapes
    path = find_tiny("bert").export(folder, exporter="torchscript")
    larger = families(Scale(width=256, layers=4, heads=8))        # the same families, large enough that operators matter
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from ..compiler.core.errors import InputError
from .exporting import dynamo, quiet, torchscript
from .mobilenetv2 import randomise_statistics
from .tiny_inputs import Kind, wrapped

if TYPE_CHECKING:
    import torch

Exporter = Literal["dynamo", "torchscript"]
BOTH: tuple[Exporter, ...] = ("dynamo", "torchscript")
SEED = 11


@dataclass(frozen=True)
class Scale:
    """How large the networks of a table are: those of a transformer, of an image and of a sound.

    ``length`` is how many tokens a network gets that cannot leave that open; ``positions`` is the most of the others; ``stages`` are the blocks in
    each part of an image network; ``shrink`` is by what the published width of a convolutional network is multiplied.
    """

    width: int = 32
    layers: int = 2
    heads: int = 4
    vocabulary: int = 99
    positions: int = 64
    length: int = 7
    pixels: int = 32
    patch: int = 8
    stages: tuple[int, ...] = (1, 1, 1, 1)
    channels: tuple[int, ...] = (8, 16, 24, 32)
    shrink: float = 0.25
    frames: int = 64
    mels: int = 16


SMALL = Scale()


@dataclass(frozen=True)
class Tiny:
    """One family: its ``transformers`` class and configuration, what it is fed, and the output that counts.

    ``free`` says which sizes its files leave open: "batch", "length" (tokens), "source" (what a decoder attends to).
    """

    name: str
    kind: Kind
    model: str
    settings: Mapping[str, object]
    output: str = "last_hidden_state"
    part: str = ""
    attends: bool = True
    exporters: tuple[Exporter, ...] = BOTH
    free: frozenset[str] = frozenset({"batch", "length", "source"})
    scale: Scale = field(default=SMALL)

    def module(self, attention: str = "sdpa") -> torch.nn.Module:
        """The network in eval mode, taking its inputs by position and returning one tensor; the same weights on every call."""
        import torch
        import transformers

        configuration = getattr(transformers, f"{re.sub('(LMHead)?Model$|For[A-Z][A-Za-z]*$', '', self.model)}Config")
        chosen = {"attn_implementation": attention} if self.attends else {}
        with quiet(), torch.random.fork_rng():
            torch.manual_seed(SEED)
            whole = getattr(transformers, self.model)(configuration(**self.settings, **chosen)).eval()
            randomise_statistics(whole)
        network = getattr(whole, self.part) if self.part else whole
        return wrapped(network, self.kind, self.output, self.attends).eval().requires_grad_(False)

    def inputs(self, batch: int = 2, length: int | None = None, seed: int = 0) -> dict[str, torch.Tensor]:
        """What it is fed, by name; ``length`` counts tokens."""
        import torch

        return {name: torch.from_numpy(array) for name, array in self.arrays(batch, length, seed).items()}

    def arrays(self, batch: int = 2, length: int | None = None, seed: int = 0) -> dict[str, np.ndarray]:
        """What it is fed as arrays; ``length`` counts tokens, as many as the scale says by default."""
        random, scale = np.random.default_rng(seed), self.scale
        tokens = length if length is not None and "length" in self.free else scale.length
        source = tokens + 3 if "source" in self.free else scale.length
        ids = random.integers(3, scale.vocabulary, (batch, tokens))
        mask = (np.arange(tokens) < random.integers(1, tokens + 1, (batch, 1))).astype(np.int64)
        pixels = random.standard_normal((batch, 3, scale.pixels, scale.pixels)).astype(np.float32)
        if self.kind == "tokens":
            return {"input_ids": ids}
        if self.kind == "text":
            return {"input_ids": ids, "attention_mask": mask}
        if self.kind == "pixels":
            return {"pixel_values": pixels}
        if self.kind == "sound":
            return {"input_features": random.standard_normal((batch, scale.mels, scale.frames)).astype(np.float32)}
        if self.kind == "tokens and states":
            return {"input_ids": ids, "encoder_hidden_states": random.standard_normal((batch, source, scale.width)).astype(np.float32)}
        return {"input_ids": ids, "pixel_values": pixels, "attention_mask": mask}

    def feeds(self, count: int) -> Iterator[dict[str, np.ndarray]]:
        """``count`` different inputs as arrays, of different batch and length where these are free."""
        for index in range(count):
            yield self.arrays(1 + index % 3 if "batch" in self.free else 2, (7, 1, 16)[index % 3], index)

    def export(
        self, folder: Path, exporter: Exporter = "dynamo", *, dynamic: bool = True, optimize: bool = True, attention: str = "sdpa",
    ) -> Path:  # fmt: skip
        """Write the ONNX file and return its path; ``dynamic`` leaves open what the family can leave open."""
        path = folder / f"{self.name}_{exporter}.onnx"
        inputs = self.inputs()
        args, axes = tuple(inputs.values()), {name: self._axes(name) for name in inputs}
        if exporter == "torchscript":
            named = {**axes, "output": {0: "batch"}}
            return torchscript(self.module("eager"), args, path, inputs=list(inputs), outputs=["output"], dynamic_axes=named if dynamic else None)
        return dynamo(self.module(attention), args, path, dynamic_shapes=self._dims(axes) if dynamic else None, optimize=optimize)

    def _axes(self, name: str) -> dict[int, str]:
        """The open axes of an input."""
        second = {"input_ids": "length", "attention_mask": "length", "encoder_hidden_states": "source"}.get(name)
        return {axis: size for axis, size in ((0, "batch"), (1, second)) if size in self.free}

    def _dims(self, axes: dict[str, dict[int, str]]) -> tuple[dict[int, object], ...]:
        import torch

        dims = {name: torch.export.Dim(name, max=None if name == "batch" else self.scale.positions) for name in ("batch", "length", "source")}
        return tuple({axis: dims[name] for axis, name in free.items()} for free in axes.values())


def families(scale: Scale = SMALL) -> tuple[Tiny, ...]:
    """Every family at a size."""
    return tuple(_families(scale))


def _families(scale: Scale) -> Iterator[Tiny]:
    width, layers, heads, inner, tokens = scale.width, scale.layers, scale.heads, 2 * scale.width, {"vocab_size": scale.vocabulary}
    special = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    plain = {"hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": heads, "intermediate_size": inner}
    text = {**plain, **tokens, "max_position_embeddings": scale.positions}
    decoder = {**text, **special, "num_key_value_heads": heads // 2, "head_dim": width // heads}
    vision = {**plain, "image_size": scale.pixels, "patch_size": scale.patch}
    t5 = {"d_model": width, "d_kv": width // heads, "d_ff": inner, "num_layers": layers, "num_heads": heads, **tokens}
    whisper = {
        "d_model": width, "encoder_layers": layers, "decoder_layers": layers, "encoder_attention_heads": heads, "decoder_attention_heads": heads,
        "encoder_ffn_dim": inner, "decoder_ffn_dim": inner, "num_mel_bins": scale.mels, "max_source_positions": scale.frames // 2,
        "max_target_positions": scale.positions, "decoder_start_token_id": 1, **tokens, **special,
    }  # fmt: skip
    batch_only = frozenset({"batch"})

    yield Tiny("bert", "text", "BertModel", text, scale=scale)
    yield Tiny("roberta", "text", "RobertaModel", {**text, "pad_token_id": 1}, scale=scale)
    yield Tiny("distilbert", "text", "DistilBertModel", {
        "dim": width, "n_layers": layers, "n_heads": heads, "hidden_dim": inner, "max_position_embeddings": scale.positions, **tokens,
    }, scale=scale)  # fmt: skip
    yield Tiny("t5_encoder", "text", "T5Model", t5, part="encoder", scale=scale)
    yield Tiny("t5_decoder", "tokens and states", "T5Model", {**t5, "use_cache": False}, part="decoder", scale=scale)
    yield Tiny("gpt2", "tokens", "GPT2LMHeadModel", {
        "n_embd": width, "n_layer": layers, "n_head": heads, "n_positions": scale.positions, "bos_token_id": 1, "eos_token_id": 2, **tokens,
    }, "logits", scale=scale)  # fmt: skip
    yield Tiny("llama", "tokens", "LlamaForCausalLM", decoder, "logits", scale=scale)
    yield Tiny("qwen3", "tokens", "Qwen3ForCausalLM", decoder, "logits", scale=scale)
    yield Tiny("mistral", "tokens", "MistralForCausalLM", {**decoder, "sliding_window": None}, "logits", scale=scale)
    yield Tiny("mamba", "tokens", "MambaModel", {
        "hidden_size": width, "num_hidden_layers": layers, "state_size": 4, "use_cache": False, **tokens,
    }, attends=False, free=batch_only, scale=scale)  # fmt: skip
    yield Tiny("vit", "pixels", "ViTModel", vision, scale=scale)
    yield Tiny("swin", "pixels", "SwinModel", {
        "image_size": scale.pixels, "patch_size": 4, "embed_dim": scale.channels[1], "depths": [2, 2], "num_heads": [2, 4], "window_size": 4,
    }, scale=scale)  # fmt: skip
    yield Tiny("segformer", "pixels", "SegformerForSemanticSegmentation", {
        "hidden_sizes": list(scale.channels), "depths": list(scale.stages), "num_attention_heads": [1, 2, 2, 4], "decoder_hidden_size": width,
    }, "logits", scale=scale)  # fmt: skip
    yield Tiny("convnext", "pixels", "ConvNextModel", {
        "hidden_sizes": list(scale.channels), "depths": list(scale.stages),
    }, "pooler_output", attends=False, scale=scale)  # fmt: skip
    yield Tiny("resnet", "pixels", "ResNetModel", {
        "embedding_size": scale.channels[1], "hidden_sizes": [2 * size for size in scale.channels], "depths": list(scale.stages),
    }, "pooler_output", attends=False, scale=scale)  # fmt: skip
    yield Tiny("mobilenetv2", "pixels", "MobileNetV2Model", {
        "image_size": scale.pixels, "depth_multiplier": scale.shrink, "finegrained_output": False,
    }, "pooler_output", attends=False, scale=scale)  # fmt: skip
    yield Tiny("efficientnet", "pixels", "EfficientNetModel", {
        "image_size": scale.pixels, "width_coefficient": scale.shrink, "depth_coefficient": 0.35, "hidden_dim": _rounded(1280 * scale.shrink),
    }, "pooler_output", attends=False, scale=scale)  # fmt: skip
    yield Tiny("whisper_encoder", "sound", "WhisperModel", whisper, part="encoder", scale=scale)
    yield Tiny("whisper_decoder", "tokens and states", "WhisperModel", {**whisper, "use_cache": False}, part="decoder", scale=scale)
    yield Tiny("clip", "text and pixels", "CLIPModel", {
        "text_config": {**text, "bos_token_id": 1, "eos_token_id": 2}, "vision_config": vision, "projection_dim": width // 2,
    }, "logits_per_image", scale=scale)  # fmt: skip


def _rounded(channels: float) -> int:
    """EfficientNet's rule: a multiple of 8, at most a tenth less."""
    size = max(8, int(channels + 4) // 8 * 8)
    return size + 8 if size < 0.9 * channels else size


FAMILIES = families()


def find_tiny(name: str) -> Tiny:
    """The family of that name. Raises InputError listing the names."""
    known = {tiny.name: tiny for tiny in FAMILIES}
    if name not in known:
        raise InputError(f"there is no tiny '{name}'; there are: {', '.join(known)}")
    return known[name]
