"""Graphs of the catalogue that no rule of ours fires on yet: what is expected, so that a change shows."""

from __future__ import annotations

NOT_FIRED = frozenset(
    {
        "embeddings of what is not negative, added and normalised",
        "attention, bert: scores divided by a root, an additive mask made of ones and zeros",
        "attention, masked with minus infinity where a mask is true",
        "attention, distilbert: masked where the mask equals zero",
        "attention, dynamo: a boolean mask made additive",
        "attention, dynamo: guarded against rows that see nothing",
        "attention, gpt-2: a constant triangle cut to size, then where",
        "attention, keras: sums by einsum, heads third",
        "attention whose softmax is over the second last axis of transposed scores",
        "reshapes to a matrix around a linear layer",
        "a reshape to a shape read off another value of the same shape",
        "a convolution between pairs runs on integers",
        "a product of matrices between pairs runs on integers",
        "a sum between pairs runs on integers",
    }
)
