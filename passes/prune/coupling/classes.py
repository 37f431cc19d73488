"""Classes of indices: union-find on arrays of numbers."""

from __future__ import annotations

import numpy as np

__all__ = ["ANY", "Classes"]

ANY = 0
"""The number of an index that nothing is known of but that it stays."""


class Classes:
    """Numbers, of which any may be tied to any; the smallest of those tied stands for all. A class may be held, for a reason that is a number above 0."""

    def __init__(self) -> None:
        self._parent = np.zeros(1024, np.int64)
        self._reason = np.zeros(1024, np.int64)
        self._reason[ANY] = 1
        self._count = 1

    def fresh(self, count: int) -> np.ndarray:
        """New numbers, int64 [count], each a class of its own."""
        end = self._count + count
        if end > len(self._parent):
            room = np.zeros(max(end, len(self._parent)), np.int64)
            self._parent, self._reason = np.concatenate([self._parent, room]), np.concatenate([self._reason, room])
        made = np.arange(self._count, end)
        self._parent[self._count : end] = made
        self._count = end
        return made

    def find(self, numbers: np.ndarray) -> np.ndarray:
        """The number that stands for each."""
        root = self._parent[numbers]
        while True:
            above = self._parent[root]
            if np.array_equal(above, root):
                break
            root = above
        self._parent[numbers] = root
        return root

    def tie(self, left: np.ndarray, right: np.ndarray) -> None:
        """Let each pair of numbers be of one class. Both arrays have one shape, or one of them a shape that broadcasts to the other's."""
        one, other = (array.reshape(-1) for array in np.broadcast_arrays(left, right))
        while True:
            one, other = self.find(one), self.find(other)
            apart = one != other
            if not apart.any():
                return
            low, high = np.minimum(one[apart], other[apart]), np.maximum(one[apart], other[apart])
            # Of several that want one number at a time the least wins; the next round joins the rest.
            np.minimum.at(self._parent, high, low)
            np.maximum.at(self._reason, low, self._reason[high])
            one, other = low, high

    def hold(self, numbers: np.ndarray, reason: int) -> None:
        """Let the classes of these numbers stay; the first reason counts."""
        roots = self.find(numbers)
        self._reason[roots[self._reason[roots] == 0]] = reason

    def reasons(self, numbers: np.ndarray) -> np.ndarray:
        """Why each number is held; 0 for those that may go."""
        return self._reason[self.find(numbers)]
