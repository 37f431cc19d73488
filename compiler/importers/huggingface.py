"""Hugging Face folders: a config.json and safetensors weights. Nothing is ever downloaded, and no code in the folder is run."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path

from ..core.errors import BackendMissing, ModelError
from ..importer import Source

try:
    import torch
    import transformers
except ImportError:
    raise BackendMissing("a Hugging Face folder needs torch and transformers: pip install 'graphwright[hf]'") from None

from .calls import Call, signature_of, split_examples
from .dynamic_shapes import axes_of
from .hf_inputs import example_call
from .torch_module import import_call, quiet


def import_folder(folder: Path, example_inputs: object = None) -> Source:
    """Export the model in a folder, in float32, without a cache of keys and values; batch and sequence are dynamic.

    It is the class that ``architectures`` names, else AutoModel. ``example_inputs`` are its keyword arguments; without them, inputs are made from
    the configuration. Raises ModelError when the folder is incomplete, ExportError when PyTorch cannot export the model.
    """
    config = _read_config(folder)
    module, notes = _load(folder, config)
    made, shapes = example_call(module)
    args, kwargs = ((), made) if example_inputs is None else split_examples(example_inputs)
    call = Call(signature_of(module), args, kwargs)
    known = {name: spec for name, spec in shapes.items() if name in call.arguments}
    source = import_call(module, call, axes_of(call, known, module), kind="huggingface", path=folder)
    return dataclasses.replace(source, warnings=(*notes, *source.warnings))


def _read_config(folder: Path) -> Mapping[str, object]:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"'{folder / 'config.json'}' cannot be read: {error}") from None
    if not isinstance(config, dict):
        raise ModelError(f"'{folder / 'config.json'}' is not a model configuration")
    if "auto_map" in config:
        raise ModelError(f"the model in '{folder}' needs code of its own, which is not run: load it yourself and give the module")
    if not any(folder.glob("*.safetensors")):
        others = [item.name for pattern in ("*.onnx", "onnx/*.onnx", "*.bin") for item in sorted(folder.glob(pattern))][:3]
        hint = f"; it has {', '.join(others)}" if others else ""
        raise ModelError(f"'{folder}' has a config.json, but no .safetensors weights{hint}")
    return config


def _load(folder: Path, config: Mapping[str, object]) -> tuple[torch.nn.Module, list[str]]:
    names = config.get("architectures") or ["AutoModel"]
    name = names[0] if isinstance(names, list) and names and isinstance(names[0], str) else "AutoModel"
    kind = getattr(transformers, name, None)
    if kind is None or not hasattr(kind, "from_pretrained"):
        raise ModelError(f"the model in '{folder}' is a {name}, which transformers {transformers.__version__} does not have")
    with quiet():
        try:
            module, info = kind.from_pretrained(
                folder, local_files_only=True, use_safetensors=True, trust_remote_code=False, output_loading_info=True, dtype=torch.float32
            )
        except Exception as error:
            reason = str(error).strip().splitlines()[0][:300] if str(error).strip() else type(error).__name__
            raise ModelError(f"the model in '{folder}' cannot be loaded: {reason}") from error
    missing = sorted(info["missing_keys"])
    if missing:
        raise ModelError(
            f"the folder '{folder}' lacks {len(missing)} weights of a {name} ({', '.join(missing[:3])}): they would be random. "
            "Load the model yourself and give the module"
        )
    module.config.use_cache = False
    stored = config.get("dtype") or config.get("torch_dtype") or "float32"
    notes = [] if stored == "float32" else [f"the weights are stored as {stored}; they were widened to float32"]
    return module.eval(), notes
