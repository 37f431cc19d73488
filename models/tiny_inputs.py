"""The networks of `tiny` with exactly the inputs of their kind, in order, and one output: what exporters want."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch

Kind = Literal["text", "tokens", "pixels", "sound", "tokens and states", "text and pixels"]


def wrapped(network: torch.nn.Module, kind: Kind, output: str, masked: bool) -> torch.nn.Module:
    """The network behind a forward of its kind; ``masked`` if it takes an attention mask."""
    import torch

    class Wrapped(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def pick(self, **inputs: object) -> torch.Tensor:
            return getattr(self.network(**inputs), output)

        def causal(self, input_ids: torch.Tensor) -> dict[str, torch.Tensor]:
            """The mask that a decoder would make itself, for the older exporter alone: it has no aten::diff, with which transformers 5 makes it."""
            if not (masked and torch.jit.is_tracing()):  # type: ignore[attr-defined]
                return {}
            length = input_ids.shape[1]
            lowest = torch.finfo(torch.float32).min
            return {"attention_mask": torch.full((length, length), lowest).triu(1)[None, None].expand(input_ids.shape[0], 1, length, length)}

    class Text(Wrapped):
        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            return self.pick(input_ids=input_ids, attention_mask=attention_mask)

    class Tokens(Wrapped):
        def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
            return self.pick(input_ids=input_ids, use_cache=False, **self.causal(input_ids))

    class Pixels(Wrapped):
        def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
            return self.pick(pixel_values=pixel_values)

    class Sound(Wrapped):
        def forward(self, input_features: torch.Tensor) -> torch.Tensor:
            return self.pick(input_features=input_features)

    class Decoder(Wrapped):
        def forward(self, input_ids: torch.Tensor, encoder_hidden_states: torch.Tensor) -> torch.Tensor:
            return self.pick(input_ids=input_ids, encoder_hidden_states=encoder_hidden_states, use_cache=False, **self.causal(input_ids))

    class Both(Wrapped):
        def forward(self, input_ids: torch.Tensor, pixel_values: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            return self.pick(input_ids=input_ids, pixel_values=pixel_values, attention_mask=attention_mask)

    kinds = {"text": Text, "tokens": Tokens, "pixels": Pixels, "sound": Sound, "tokens and states": Decoder, "text and pixels": Both}
    return kinds[kind]()
