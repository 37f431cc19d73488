"""MobileNetV2 (Sandler et al., CVPR 2018) as a torch module, with random weights: for graphs and speed, not for accuracy."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from .exporting import dynamo

if TYPE_CHECKING:
    import torch

STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
"""(expansion, channels, blocks, first stride) of each stage: Table 2 of the paper."""
SEED = 3


def network(classes: int = 1000) -> torch.nn.Module:
    """float32 [batch, 3, height, width] -> scores [batch, classes]; in eval mode, BatchNormalization statistics as if trained."""
    import torch
    from torch import nn

    class Residual(nn.Module):
        def __init__(self, layers: nn.Module) -> None:
            super().__init__()
            self.layers = layers

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            return pixels + self.layers(pixels)

    def conv(before: int, after: int, size: int = 1, stride: int = 1, groups: int = 1) -> list[nn.Module]:
        return [nn.Conv2d(before, after, size, stride, size // 2, groups=groups, bias=False), nn.BatchNorm2d(after)]

    def block(before: int, after: int, expansion: int, stride: int) -> nn.Module:
        hidden = before * expansion
        expand = [*conv(before, hidden), nn.ReLU6()] if expansion > 1 else []
        layers = nn.Sequential(*expand, *conv(hidden, hidden, 3, stride, hidden), nn.ReLU6(), *conv(hidden, after))
        return Residual(layers) if stride == 1 and before == after else layers

    with torch.random.fork_rng():
        torch.manual_seed(SEED)
        layers, channels = [*conv(3, 32, 3, 2), nn.ReLU6()], 32
        for expansion, after, count, stride in STAGES:
            for index in range(count):
                layers.append(block(channels, after, expansion, stride if index == 0 else 1))
                channels = after
        head = [*conv(channels, 1280), nn.ReLU6(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(1280, classes)]
        module = nn.Sequential(*layers, *head)
        randomise_statistics(module)
    return module.eval().requires_grad_(False)


def randomise_statistics(module: torch.nn.Module) -> None:
    """Give every BatchNormalization the statistics of a trained one: without that, folding it would be folding ones and zeros."""
    import torch

    for layer in module.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(layer.get_buffer("running_mean"), 0, 0.1)
            torch.nn.init.uniform_(layer.get_buffer("running_var"), 0.5, 1.5)
            torch.nn.init.uniform_(layer.weight, 0.5, 1.5)
            torch.nn.init.normal_(layer.bias, 0, 0.1)


def example_inputs(size: int = 224) -> tuple[torch.Tensor]:
    """One image of normal noise."""
    import torch

    return (torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(SEED)),)


def export(folder: Path, *, optimize: bool = True, size: int = 224) -> Path:
    """The ONNX file that torch's exporter writes, at a fixed shape of one image."""
    return dynamo(network(), example_inputs(size), folder / "mobilenetv2.onnx", optimize=optimize)
