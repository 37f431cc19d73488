"""Matrix products and attention."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .call import Call, Operators, plain

if TYPE_CHECKING:
    import torch

__all__ = ["operators"]

HEADS_APART = 4


def operators() -> Operators:
    """By operator type."""
    import torch

    def gemm(call: Call, a: torch.Tensor, b: torch.Tensor, c: torch.Tensor | None = None) -> torch.Tensor:
        product = (a.T if call.whole("transA") else a) @ (b.T if call.whole("transB") else b)
        alpha, beta = call.number("alpha"), call.number("beta")
        product = product if alpha == 1 else alpha * product
        return product if c is None else product + (c if beta == 1 else beta * c)

    def attention(call: Call, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None = None, *rest: object) -> torch.Tensor:
        if any(item is not None for item in rest):
            raise call.refuse("a cache of keys")
        heads, kv_heads = (_heads_of(tensor, call, name) for tensor, name in ((query, "q_num_heads"), (key, "kv_num_heads")))
        together = query.ndim < HEADS_APART
        query, key, value = _apart(query, heads), _apart(key, kv_heads), _apart(value, kv_heads)
        key, value = (tensor.repeat_interleave(heads // kv_heads, dim=1) for tensor in (key, value))
        scale = call.number("scale") if call.given("scale") else query.shape[-1] ** -0.5
        scores = scale * (query @ key.transpose(-1, -2))
        if call.number("softcap"):
            scores = call.number("softcap") * torch.tanh(scores / call.number("softcap"))
        if call.whole("is_causal"):
            later = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu(1)
            scores = scores.masked_fill(later, -torch.inf)
        if mask is not None:
            scores = scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask
        output = torch.softmax(scores, dim=-1) @ value
        return output.transpose(1, 2).flatten(2) if together else output

    def rotary(call: Call, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, places: torch.Tensor | None = None) -> torch.Tensor:
        together = x.ndim < HEADS_APART
        apart = _apart(x, call.whole("num_heads")) if together else x
        width = call.whole("rotary_embedding_dim") or apart.shape[-1]
        turned, kept = apart[..., :width], apart[..., width:]
        cos, sin = (table if places is None else table[places] for table in (cos, sin))
        cos, sin = (table.unsqueeze(1)[..., : width // 2] for table in (cos, sin))
        if call.whole("interleaved"):
            first, second = turned[..., 0::2], turned[..., 1::2]
            turned = torch.stack([cos * first - sin * second, sin * first + cos * second], dim=-1).flatten(-2)
        else:
            first, second = turned.chunk(2, dim=-1)
            turned = torch.cat([cos * first - sin * second, sin * first + cos * second], dim=-1)
        found = torch.cat([turned, kept], dim=-1)
        return found.transpose(1, 2).flatten(2) if together else found

    return {
        "MatMul": plain(torch.matmul), "Gemm": gemm, "Attention": attention, "RotaryEmbedding": rotary,
        "Einsum": lambda call, *inputs: torch.einsum(call.text("equation"), *inputs),
    }  # fmt: skip


def _heads_of(x: torch.Tensor, call: Call, name: str) -> int:
    return call.whole(name) if x.ndim < HEADS_APART else x.shape[1]


def _apart(x: torch.Tensor, heads: int) -> torch.Tensor:
    """[batch, length, heads * width] as [batch, heads, length, width]; four dimensions as they are."""
    return x if x.ndim == HEADS_APART else x.unflatten(-1, (heads, -1)).transpose(1, 2)
