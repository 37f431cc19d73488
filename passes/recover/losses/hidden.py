"""Hidden states: by their error and angle where shapes agree, else by centred kernel alignment, which does not mind how wide either side is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .outputs import TINY, cosine, relative_error

if TYPE_CHECKING:
    import torch

__all__ = ["HIDDEN", "alignment", "hidden_loss"]

HIDDEN = ("mse", "cosine", "cka", "none")


def hidden_loss(student: torch.Tensor, teacher: torch.Tensor, kind: str) -> torch.Tensor | None:
    """The loss of one hidden state by its kind (of `HIDDEN`); None where the two cannot be compared."""
    if student.shape == teacher.shape and kind != "cka":
        return relative_error(student, teacher) if kind == "mse" else cosine(student, teacher)
    return alignment(student, teacher)


def alignment(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor | None:
    """1 - linear CKA (Kornblith et al., "Similarity of Neural Network Representations Revisited", ICML 2019, equation 5) of rows [n, d] and [n, e].

    Of images [n, c, h, w] a row is a place. None where the rows are not the same ones, or fewer than two.
    """
    ours, theirs = _rows(student, teacher), _rows(teacher, student)
    if ours is None or theirs is None or len(ours) != len(theirs) or len(ours) < 2:
        return None
    ours, theirs = ours - ours.mean(0), theirs - theirs.mean(0)
    shared = (ours.T @ theirs).square().sum()
    own = (ours.T @ ours).square().sum().sqrt() * (theirs.T @ theirs).square().sum().sqrt()
    return 1 - shared / own.clamp(min=TINY)


def _rows(x: torch.Tensor, other: torch.Tensor) -> torch.Tensor | None:
    """Rows along the one dimension in which the two differ (the last, where they do not); None where they differ in several."""
    if x.ndim != other.ndim or x.ndim < 2:
        return None
    differing = [axis for axis in range(x.ndim) if x.shape[axis] != other.shape[axis]] or [x.ndim - 1]
    return x.movedim(differing[0], -1).reshape(-1, x.shape[differing[0]]) if len(differing) == 1 and differing[0] > 0 else None
