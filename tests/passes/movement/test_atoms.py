"""Atoms tell what a chain of reshapes and transposes does, and say so only where it is proven."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from graphwright.compiler.core.dims import UNKNOWN
from graphwright.passes.movement.atoms import Layout

N = ir.SymbolicDim("N")


def order(layout: Layout) -> list[int]:
    """For each atom at the end, its place among those of the source."""
    before = [atom for group in layout.before() for atom in group]
    return [before.index(atom) for group in layout.after() for atom in group]


def test_a_reshape_keeps_the_order_and_a_transpose_changes_it() -> None:
    layout = Layout.of((N, 6, 4))
    assert layout.reshape((N, 2, 3, 4))
    assert order(layout) == [0, 1, 2, 3]
    assert layout.transpose((0, 2, 1, 3))
    assert order(layout) == [0, 2, 1, 3]


def test_an_atom_that_is_cut_later_is_cut_in_the_source_too() -> None:
    layout = Layout.of((6, 5))
    assert layout.transpose((1, 0))
    assert layout.reshape((5, 2, 3))
    assert [[atom.size for atom in group] for group in layout.before()] == [[2, 3], [5]]


def test_dims_of_size_one_have_no_atoms() -> None:
    layout = Layout.of((1, N, 1))
    assert layout.transpose((1, 2, 0))
    assert order(layout) == [0]


def test_what_does_not_come_out_even_is_not_told() -> None:
    assert not Layout.of((4, 6)).reshape((3, 8))
    assert not Layout.of((N, 6)).reshape((6, N))
    assert not Layout.of((N, 6)).reshape((UNKNOWN, 3))
    assert not Layout.of((4, 6)).reshape((4, 3))
    assert not Layout.of((4, 6)).transpose((0, 2, 1))


def test_the_order_told_is_the_order_of_the_elements() -> None:
    """Random chains: reshaping to atoms, transposing by the order told and reshaping to the end gives what the chain gives."""
    random = np.random.default_rng(5)
    told = 0
    for _ in range(200):
        shape = tuple(int(size) for size in random.permutation([2, 3, 4, 5])[:3])
        data = np.arange(np.prod(shape)).reshape(shape)
        layout, made = Layout.of(shape), data
        known = True
        for _ in range(4):
            if random.random() < 0.5:
                perm = [int(axis) for axis in random.permutation(made.ndim)]
                made, known = made.transpose(perm), known and layout.transpose(perm)
            else:
                first = int(random.choice([size for size in range(1, made.size + 1) if made.size % size == 0]))
                made = made.reshape(first, -1)
                known = known and layout.reshape(made.shape)
        if known:
            told += 1
            atoms = [atom.size for group in layout.before() for atom in group]
            np.testing.assert_array_equal(data.reshape(atoms).transpose(order(layout)).reshape(made.shape), made)
    assert told > 50
