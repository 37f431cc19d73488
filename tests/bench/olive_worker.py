"""Olive in an environment of its own: ``python olive_worker.py MODEL SAMPLES OUTPUT PASS OPTIONS`` quantises one model with one pass.

SAMPLES is a folder of .npz files, one a sample, or "-"; OPTIONS are the pass's options as JSON. The pass runs with Olive's defaults for all else.
"""

from __future__ import annotations

import importlib
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

PASSES = {
    "OnnxStaticQuantization": "olive.passes.onnx.quantization",
    "OnnxDynamicQuantization": "olive.passes.onnx.quantization",
    "OnnxBlockWiseRtnQuantization": "olive.passes.onnx.rtn_quantization",
    "OnnxKQuantQuantization": "olive.passes.onnx.kquant_quantization",
    "OnnxHqqQuantization": "olive.passes.onnx.hqq_quantization",
}
NAME = "given_samples"


class Samples:
    """(inputs, no label) for each file."""

    def __init__(self, folder: Path) -> None:
        self.files = sorted(folder.glob("*.npz"))

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[dict[str, np.ndarray], int]:
        with np.load(self.files[index]) as file:
            return dict(file), 0

    def __iter__(self) -> Iterator[tuple[dict[str, np.ndarray], int]]:
        return (self[index] for index in range(len(self)))


def main() -> int:
    """Run one pass; returns the exit code."""
    model, samples, output, name, options = sys.argv[1:]
    from olive.data.registry import Registry
    from olive.model import ONNXModelHandler
    from olive.passes.olive_pass import create_pass_from_dict

    Registry.register_dataset(NAME)(lambda **_: Samples(Path(samples)))
    Registry.register_pre_process("as_they_are")(lambda dataset, **_: dataset)
    config = json.loads(options)
    if samples != "-":
        config["data_config"] = {
            "name": NAME,
            "load_dataset_config": {"type": NAME},
            "pre_process_data_config": {"type": "as_they_are"},
            "dataloader_config": {"type": "no_auto_batch_dataloader"},
        }
    kind = getattr(importlib.import_module(PASSES[name]), name)
    made = create_pass_from_dict(kind, config, disable_search=True).run(ONNXModelHandler(model), output)
    if Path(made.model_path) != Path(output):  # Some passes leave out the suffix.
        shutil.move(made.model_path, output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
