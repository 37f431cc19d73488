"""Inputs that a transformers model accepts, made from its configuration and from what its forward takes. No model is known by name."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch

from ..core.errors import InputError

BATCH, LENGTH, SAMPLES = 2, 8, 4000
Shapes = dict[str, dict[int, str]]


def example_call(module: Any) -> tuple[dict[str, torch.Tensor], Shapes]:
    """Keyword arguments for the module's forward, and the dynamic axes of each. Raises InputError when the configuration does not tell."""
    config, takes = module.config, inspect.signature(module.forward).parameters
    random = torch.Generator().manual_seed(0)
    inputs: dict[str, torch.Tensor] = {}
    shapes: Shapes = {}
    main = getattr(module, "main_input_name", "input_ids")
    if "input_ids" in takes and (main == "input_ids" or _part(config, "text_config") is not None):
        _add_text(inputs, shapes, takes, config, random)
    if "pixel_values" in takes and (main == "pixel_values" or _part(config, "vision_config") is not None):
        inputs["pixel_values"], shapes["pixel_values"] = _images(config, random), {0: "batch"}
    if "input_values" in takes and main == "input_values":
        inputs["input_values"], shapes["input_values"] = torch.randn(BATCH, SAMPLES, generator=random), {0: "batch", 1: "samples"}
    if "input_features" in takes and main == "input_features":
        inputs["input_features"], shapes["input_features"] = _features(config, random), {0: "batch"}
    if getattr(config, "is_encoder_decoder", False) and "decoder_input_ids" in takes:
        inputs["decoder_input_ids"] = _tokens(config, random)
        shapes["decoder_input_ids"] = {0: "batch", 1: "decoder_sequence"}
    if not inputs:
        raise InputError(
            f"what a {type(module).__name__} takes cannot be told from its configuration: give example_inputs as a dict ({', '.join(list(takes)[:6])}, ...)"
        )
    return inputs, shapes


def _add_text(inputs: dict[str, torch.Tensor], shapes: Shapes, takes: Mapping[str, inspect.Parameter], config: Any, random: torch.Generator) -> None:
    inputs["input_ids"] = _tokens(_part(config, "text_config") or config, random)
    if "attention_mask" in takes:
        inputs["attention_mask"] = torch.ones(BATCH, LENGTH, dtype=torch.int64)
        inputs["attention_mask"][1, LENGTH - 2 :] = 0
    if "token_type_ids" in takes and (getattr(config, "type_vocab_size", 0) or 0) > 1:
        inputs["token_type_ids"] = torch.zeros(BATCH, LENGTH, dtype=torch.int64)
    shapes.update({name: {0: "batch", 1: "sequence"} for name in inputs})


def _part(config: Any, name: str) -> Any:
    return getattr(config, name, None)


def _tokens(config: Any, random: torch.Generator) -> torch.Tensor:
    """Token ids in range; padding is left out, and the last one ends the text where a head looks for that."""
    ids = torch.randint(0, _number(config, "vocab_size"), (BATCH, LENGTH), generator=random)
    padding = getattr(config, "pad_token_id", None)
    if padding is not None:
        ids[ids == padding] = (padding + 1) % _number(config, "vocab_size")
    end = getattr(config, "eos_token_id", None)
    if isinstance(end, int) and 0 <= end < _number(config, "vocab_size"):
        ids[:, -1] = end
    return ids


def _images(config: Any, random: torch.Generator) -> torch.Tensor:
    config = _part(config, "vision_config") or config
    size = getattr(config, "image_size", None) or 224
    height, width = (size, size) if isinstance(size, int) else (size["height"], size["width"]) if isinstance(size, Mapping) else tuple(size)[-2:]
    return torch.randn(BATCH, getattr(config, "num_channels", 3), height, width, generator=random)


def _features(config: Any, random: torch.Generator) -> torch.Tensor:
    """Spectrogram frames: two for each position of the encoder."""
    return torch.randn(BATCH, _number(config, "num_mel_bins"), 2 * _number(config, "max_source_positions"), generator=random)


def _number(config: Any, name: str) -> int:
    value = getattr(config, name, None)
    if not isinstance(value, int) or value < 1:
        raise InputError(f"the configuration has no usable '{name}', so example inputs cannot be made: give example_inputs")
    return value
