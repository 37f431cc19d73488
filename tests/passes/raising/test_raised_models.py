"""Transformers as torch exports them have as many norms and activations after raising as their architecture has."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import onnx
import pytest

import graphwright
from graphwright.models.tiny import Exporter, find_tiny

SPELLED = ("ReduceMean", "ReduceSum", "Sqrt", "Reciprocal", "Pow", "Erf", "Tanh")
"""What norms and activations are made of, of which nothing may be left."""
NORMS = {
    "bert": {"LayerNormalization": 5, "Gelu": 2},
    "roberta": {"LayerNormalization": 5, "Gelu": 2},
    "distilbert": {"LayerNormalization": 5, "Gelu": 2},
    "gpt2": {"LayerNormalization": 5, "Gelu": 2},
    "llama": {"RMSNormalization": 5},
    "mistral": {"RMSNormalization": 5},
    "qwen3": {"RMSNormalization": 9},
    "t5_encoder": {"RMSNormalization": 5, "Relu": 2},
    "vit": {"LayerNormalization": 5, "Gelu": 2},
    "whisper_encoder": {"LayerNormalization": 5, "Gelu": 4},
}
QUICK = (("bert", "torchscript"), ("llama", "dynamo"))


def counts(name: str, exporter: Exporter, folder: Path) -> Counter[str]:
    path = find_tiny(name).export(folder, exporter)
    return Counter(node.op_type for node in graphwright.optimize(onnx.load(path), target="onnx").graph.node)


def check(name: str, exporter: Exporter, folder: Path) -> None:
    found = counts(name, exporter, folder)
    assert {kind: found[kind] for kind in NORMS[name]} == NORMS[name]
    assert not [kind for kind in SPELLED if found[kind]]


@pytest.mark.parametrize(("name", "exporter"), QUICK)
def test_norms_and_activations_are_all_raised(name: str, exporter: Exporter, tmp_path: Path) -> None:
    check(name, exporter, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("exporter", ["dynamo", "torchscript"])
@pytest.mark.parametrize("name", list(NORMS))
def test_norms_and_activations_of_every_family_are_all_raised(name: str, exporter: Exporter, tmp_path: Path) -> None:
    tiny = find_tiny(name)
    if exporter not in tiny.exporters:
        pytest.skip(f"{name} is not exported by {exporter}")
    check(name, exporter, tmp_path)


@pytest.mark.slow
def test_the_norms_and_activations_of_convnext_are_all_raised(tmp_path: Path) -> None:
    found = counts("convnext", "torchscript", tmp_path)
    assert (found["LayerNormalization"], found["Gelu"], found["Erf"]) == (9, 4, 0)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["llama", "mistral", "qwen3"])
def test_swish_runs_in_one_kernel_of_onnx_runtime_and_stays_two_operators_elsewhere(name: str, tmp_path: Path) -> None:
    path = find_tiny(name).export(tmp_path)
    ours, portable = (Counter(node.op_type for node in graphwright.optimize(onnx.load(path), target=target).graph.node) for target in ("ort-cpu", "onnx"))
    assert (ours["QuickGelu"], ours["Swish"], ours["Sigmoid"]) == (2, 0, 0)
    assert (portable["Swish"], portable["Sigmoid"]) == (0, 2)
