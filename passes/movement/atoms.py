"""What a chain of reshapes and transposes does, told by the factors of the dims that it keeps together.

Every dim is a product of atoms. A Reshape cuts atoms and groups them anew but keeps their order; a Transpose changes their order. So the chain is
known by the order of the atoms at its end, and whatever gives them that order and the last shape computes the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ...compiler.core.dims import Dim, divide_exactly, multiply, same


@dataclass(eq=False)
class Atom:
    """A factor of a dim; once it is cut, it stands for its parts."""

    size: Dim
    parts: tuple[Atom, Atom] | None = None

    def leaves(self) -> list[Atom]:
        """The atoms it was cut into, itself if it is whole."""
        return [self] if self.parts is None else [leaf for part in self.parts for leaf in part.leaves()]


Group = list[Atom]


@dataclass
class Layout:
    """The atoms of a tensor, by dim, beside those of the tensor it came from; dims of size 1 have none."""

    source: list[Group]
    groups: list[Group] = field(default_factory=list)

    @staticmethod
    def of(shape: Sequence[Dim]) -> Layout:
        """One atom for every dim."""
        source = [[] if size == 1 else [Atom(size)] for size in shape]
        return Layout(source, [list(group) for group in source])

    def transpose(self, perm: Sequence[int]) -> bool:
        """Move the dims; False when ``perm`` is not for so many."""
        if len(perm) != len(self.groups):
            return False
        self.groups = [self.groups[axis] for axis in perm]
        return True

    def reshape(self, shape: Sequence[Dim]) -> bool:
        """Group the atoms into dims of these sizes, cutting some; False when that cannot be proven to come out even."""
        queue = [leaf for group in self.groups for atom in group for leaf in atom.leaves()]
        made = []
        for size in shape:
            group = _taken(queue, size)
            if group is None:
                return False
            made.append(group)
        self.groups = made
        return not queue

    def before(self) -> list[Group]:
        """The dims of the source, in atoms that are whole."""
        return [[leaf for atom in group for leaf in atom.leaves()] for group in self.source]

    def after(self) -> list[Group]:
        """The dims at the end, in atoms that are whole."""
        return [[leaf for atom in group for leaf in atom.leaves()] for group in self.groups]


def _taken(queue: Group, size: Dim) -> Group | None:
    """Atoms off the front of ``queue`` that make up ``size``; the last one is cut if it is too large."""
    group: Group = []
    have: Dim = 1
    while not same(have, size):
        if not queue:
            return None
        atom = queue.pop(0)
        total = multiply(have, atom.size)
        if not same(total, size) and divide_exactly(size, total) is None:
            if not _cut(atom, divide_exactly(size, have)):
                return None
            atom, rest = atom.parts  # type: ignore[misc]
            queue.insert(0, rest)
            total = size
        group.append(atom)
        have = total
    return group


def _cut(atom: Atom, first: Dim | None) -> bool:
    """Cut an atom so that its first part has this size; False when it does not divide."""
    rest = None if first is None or first == 0 or first == 1 else divide_exactly(atom.size, first)
    if rest is None or first is None:
        return False
    atom.parts = (Atom(first), Atom(rest))
    return True
