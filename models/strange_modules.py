"""Small torch modules of many kinds, as people write them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def modules() -> dict[str, Callable[[], torch.nn.Module]]:
    """Each by name; new weights on every call, drawn from torch's generator."""
    import torch
    from torch import nn
    from torch.nn import functional

    class UNet(nn.Module):
        """Down by strides, up by transposed convolutions, with one skip."""

        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU())
            self.down = nn.Sequential(nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.LeakyReLU(0.1), nn.Conv2d(32, 32, 3, padding=1), nn.ReLU())
            self.up = nn.ConvTranspose2d(32, 16, 4, stride=2, padding=1)
            self.head = nn.Conv2d(32, 5, 1)

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            first = self.stem(pixels)
            return self.head(torch.cat([first, functional.relu(self.up(self.down(first)))], dim=1))

    class Tagger(nn.Module):
        """A bidirectional LSTM under a classifier."""

        def __init__(self) -> None:
            super().__init__()
            self.lstm = nn.LSTM(24, 32, batch_first=True, bidirectional=True)
            self.head = nn.Sequential(nn.Linear(64, 48), nn.Tanh(), nn.Linear(48, 9))

        def forward(self, steps: torch.Tensor) -> torch.Tensor:
            return self.head(self.lstm(steps)[0])

    class Temporal(nn.Module):
        """Causal dilated convolutions with gates and a residual."""

        def __init__(self) -> None:
            super().__init__()
            self.entry = nn.Conv1d(8, 32, 1)
            self.layers = nn.ModuleList(nn.Conv1d(32, 64, 3, dilation=2**index) for index in range(3))
            self.head = nn.Conv1d(32, 4, 1)

        def forward(self, signal: torch.Tensor) -> torch.Tensor:
            state = self.entry(signal)
            for index, layer in enumerate(self.layers):
                value, gate = layer(functional.pad(state, (2 * 2**index, 0))).chunk(2, dim=1)
                state = state + torch.tanh(value) * torch.sigmoid(gate)
            return self.head(state)

    class Mixer(nn.Module):
        """Patches, mixed along tokens and along channels in turn."""

        def __init__(self) -> None:
            super().__init__()
            self.patches = nn.Conv2d(3, 32, 8, stride=8)
            self.norms = nn.ModuleList(nn.LayerNorm(32) for _ in range(3))
            self.tokens = nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 16))
            self.channels = nn.Sequential(nn.Linear(32, 64), nn.GELU(), nn.Linear(64, 32))
            self.head = nn.Linear(32, 10)

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            state = self.patches(pixels).flatten(2).transpose(1, 2)
            state = state + self.tokens(self.norms[0](state).transpose(1, 2)).transpose(1, 2)
            state = state + self.channels(self.norms[1](state))
            return self.head(self.norms[2](state).mean(dim=1))

    class Separable(nn.Module):
        """Depthwise and pointwise convolutions with squeeze and excitation."""

        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Sequential(nn.Conv2d(3, 24, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(24), nn.Hardswish())
            self.depthwise = nn.Sequential(nn.Conv2d(24, 24, 5, padding=2, groups=24, bias=False), nn.BatchNorm2d(24), nn.ReLU6())
            self.squeeze = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(24, 8, 1), nn.ReLU(), nn.Conv2d(8, 24, 1), nn.Hardsigmoid())
            self.pointwise = nn.Conv2d(24, 40, 1)
            self.head = nn.Linear(40, 10)

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            state = self.depthwise(self.stem(pixels))
            return self.head(self.pointwise(state * self.squeeze(state)).amax(dim=(2, 3)))

    class Shuffle(nn.Module):
        """Grouped convolutions whose channels are shuffled in between."""

        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv2d(3, 32, 3, padding=1)
            self.grouped = nn.Conv2d(32, 32, 3, padding=1, groups=4)
            self.again = nn.Conv2d(32, 32, 3, padding=1, groups=8)
            self.head = nn.Conv2d(32, 12, 1)

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            state = functional.relu(self.grouped(functional.relu(self.first(pixels))))
            batch, channels, height, width = state.shape
            state = state.reshape(batch, 4, channels // 4, height, width).transpose(1, 2).reshape(batch, channels, height, width)
            return functional.pixel_shuffle(self.head(functional.relu(self.again(state))), 2)

    class Cross(nn.Module):
        """Queries that attend to a memory, then a gated feed-forward."""

        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(32, 4, batch_first=True)
            self.norm = nn.LayerNorm(32)
            self.gate, self.value, self.out = nn.Linear(32, 64), nn.Linear(32, 64), nn.Linear(64, 32)

        def forward(self, queries: torch.Tensor, memory: torch.Tensor) -> torch.Tensor:
            state = self.norm(queries + self.attention(queries, memory, memory, need_weights=False)[0])
            return state + self.out(functional.silu(self.gate(state)) * self.value(state))

    class Volume(nn.Module):
        """Convolutions in three dimensions."""

        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.Sequential(nn.Conv3d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool3d(2), nn.Conv3d(8, 16, 3, padding=1), nn.ELU())
            self.head = nn.Linear(16, 3)

        def forward(self, voxels: torch.Tensor) -> torch.Tensor:
            return self.head(self.layers(voxels).mean(dim=(2, 3, 4)))

    return {
        "u_net": UNet, "lstm_tagger": Tagger, "temporal_convolutions": Temporal, "mlp_mixer": Mixer, "depthwise_separable": Separable,
        "grouped_shuffle": Shuffle, "cross_attention": Cross, "volume": Volume,
    }  # fmt: skip
