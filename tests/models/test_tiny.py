"""Tiny transformers export, and their files compute what torch computes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from graphwright.compiler.core.errors import InputError
from graphwright.models import mobilenetv2
from graphwright.models.session import Plain, only
from graphwright.models.tiny import FAMILIES, Exporter, Scale, Tiny, families, find_tiny

QUICK = ("bert", "llama", "vit")
OLDER = [tiny for tiny in FAMILIES if "torchscript" in tiny.exporters]


def check(tiny: Tiny, exporter: Exporter, folder: Path) -> None:
    """The exported file agrees with torch on three inputs of different shape."""
    runner, module = Plain(tiny.export(folder, exporter)), tiny.module()
    for feed in tiny.feeds(3):
        expected = module(*(torch.from_numpy(array) for array in feed.values())).numpy()
        np.testing.assert_allclose(only(runner.run(feed)), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", QUICK)
def test_a_family_exports_with_dynamic_shapes(name: str, tmp_path: Path) -> None:
    check(find_tiny(name), "dynamo", tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("tiny", [tiny for tiny in FAMILIES if tiny.name not in QUICK], ids=lambda tiny: tiny.name)
def test_every_other_family_exports_with_dynamic_shapes(tiny: Tiny, tmp_path: Path) -> None:
    check(tiny, "dynamo", tmp_path)


@pytest.mark.parametrize("tiny", OLDER, ids=lambda tiny: tiny.name)
def test_a_family_exports_through_the_older_exporter(tiny: Tiny, tmp_path: Path) -> None:
    check(tiny, "torchscript", tmp_path)


def test_the_weights_are_the_same_each_time() -> None:
    first, second = (find_tiny("vit").module().state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_every_family_comes_at_other_sizes() -> None:
    scale = Scale(width=64, layers=1, heads=2, pixels=64, patch=16, channels=(16, 24, 32, 48), frames=32)
    for tiny in families(scale):
        output = tiny.module()(*tiny.inputs(batch=1).values())
        assert torch.isfinite(output).all(), tiny.name


def test_an_unknown_family_lists_the_known_ones() -> None:
    with pytest.raises(InputError, match="no tiny 'bart'.*bert, roberta"):
        find_tiny("bart")


def test_mobilenetv2_has_the_size_of_the_paper_and_exports(tmp_path: Path) -> None:
    module = mobilenetv2.network()
    assert sum(weights.numel() for weights in module.parameters()) == 3_504_872
    path = mobilenetv2.export(tmp_path, size=64, optimize=False)
    assert sum(node.op_type == "BatchNormalization" for node in onnx.load(path).graph.node) == 52
    (pixels,) = mobilenetv2.example_inputs(64)
    scores = only(Plain(path).run({"input": pixels.numpy()}))
    assert np.isfinite(scores).all() and scores.std() > 1e-3
    np.testing.assert_allclose(scores, module(pixels).numpy(), rtol=1e-3, atol=1e-4)
