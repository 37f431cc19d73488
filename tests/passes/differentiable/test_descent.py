"""Adam takes the steps that torch's own takes."""

from __future__ import annotations

import pytest

from graphwright.passes.differentiable.descent import Adam

torch = pytest.importorskip("torch")


@pytest.mark.slow
def test_it_walks_where_torch_walks() -> None:
    matrix = torch.randn(5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    ours, theirs = torch.ones(5, dtype=torch.float64), torch.ones(5, dtype=torch.float64, requires_grad=True)
    descent, reference = Adam([(ours, 0.1)]), torch.optim.Adam([theirs], lr=0.1, eps=1e-12)
    for _ in range(50):
        descent.step((matrix @ ours - 1).square().sum())
        reference.zero_grad()
        (matrix @ theirs - 1).square().sum().backward()
        reference.step()
    torch.testing.assert_close(ours.detach(), theirs.detach(), rtol=1e-9, atol=1e-9)


def test_it_goes_down_and_each_tensor_has_its_rate() -> None:
    moved, still, unused = torch.zeros(3), torch.zeros(3), torch.zeros(2)
    descent = Adam([(moved, 0.1), (still, 0.0), (unused, 1.0)])
    for _ in range(200):
        descent.step((moved + still - torch.tensor([1.0, -2.0, 0.5])).square().sum())
    assert moved.tolist() == pytest.approx([1.0, -2.0, 0.5], abs=0.02)
    assert not still.any()
    assert not unused.any()
