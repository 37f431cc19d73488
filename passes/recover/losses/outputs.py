"""Answers: scores of classes by their divergence (Hinton et al., "Distilling the Knowledge in a Neural Network", 2015), other numbers by their error."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

__all__ = ["OUTPUTS", "cosine", "divergence", "relative_error", "reverse_divergence", "similarity"]

OUTPUTS = ("auto", "kl", "reverse-kl", "mse", "cosine")
"""What `recover` takes: auto is kl and mse where an output holds scores of classes, mse and cosine elsewhere."""
TINY = 1e-12


def divergence(student: torch.Tensor, teacher: torch.Tensor, temperature: float, probable: bool) -> torch.Tensor:
    """KL(teacher || student) of the last axis at a temperature, times its square, the mean over rows; ``probable`` says that both hold probabilities."""
    ours, theirs = _softened(student, temperature, probable), _softened(teacher, temperature, probable)
    return temperature**2 * (theirs.exp() * (theirs - ours)).sum(-1).mean()


def reverse_divergence(student: torch.Tensor, teacher: torch.Tensor, temperature: float, probable: bool) -> torch.Tensor:
    """KL(student || teacher): the student gives up what it cannot have instead of spreading thin (Gu et al., "MiniLLM", ICLR 2024)."""
    return divergence(teacher, student, temperature, probable)


def relative_error(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """The squared error as a part of how much the teacher's numbers vary from row to row (of what they are, where there is one row)."""
    wide = teacher.reshape(-1, teacher.shape[-1]) if teacher.ndim > 1 else teacher.reshape(-1, 1)
    varied = (wide - wide.mean(0)).square().sum() if len(wide) > 1 else wide.square().sum()
    return (student - teacher).square().sum() / varied.clamp(min=TINY)


def cosine(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """1 - the cosine of the angle between rows, its mean."""
    from torch.nn import functional

    return 1 - functional.cosine_similarity(student, teacher, dim=-1, eps=1e-6).mean()


def similarity(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """How much the cosines between the rows of a batch differ (Tung and Mori, "Similarity-Preserving Knowledge Distillation", ICCV 2019).

    Relative to how much the teacher's vary; rows [n, d] and [n, e], zero for one row.
    """
    ours, theirs = _cosines(student), _cosines(teacher)
    varied = (theirs - theirs.mean()).square().sum()
    return (ours - theirs).square().sum() / varied.clamp(min=TINY)


def _cosines(rows: torch.Tensor) -> torch.Tensor:
    from torch.nn import functional

    lengths = functional.normalize(rows.flatten(1), dim=-1)
    return lengths @ lengths.T


def _softened(scores: torch.Tensor, temperature: float, probable: bool) -> torch.Tensor:
    import torch

    logits = scores.clamp(min=TINY).log() if probable else scores
    return torch.log_softmax(logits / temperature, dim=-1)
