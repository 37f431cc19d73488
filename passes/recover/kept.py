"""A training in a file, so that one that was stopped goes on where it was."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from ...compiler.core.errors import InputError, UsageError

__all__ = ["Kept"]

MARK = "mark"


@dataclass(frozen=True)
class Kept:
    """Arrays by name in the file ``path``; ``mark`` tells the training that they are of from any other."""

    path: Path
    mark: str

    def load(self) -> dict[str, np.ndarray]:
        """What was kept; nothing where there is no file. Raises UsageError when the file is of another training, InputError when it cannot be read."""
        if not self.path.exists():
            return {}
        try:
            with np.load(self.path, allow_pickle=False) as file:
                found = {name: file[name] for name in file.files}
        except (OSError, ValueError, BadZipFile, EOFError) as error:
            raise InputError(f"'{self.path}' holds no training to go on with: {error}") from error
        if str(found.pop(MARK, "")) != self.mark:
            raise UsageError(f"'{self.path}' is of another training: of another model, other data or other options. Name another file, or remove it.")
        return found

    def save(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Put them in the place of what was there, at once. Raises InputError when the disk refuses."""
        beside = self.path.with_name(f"{self.path.name}.{os.getpid()}")
        try:
            with beside.open("wb") as file:
                np.savez(file, allow_pickle=False, **{**arrays, MARK: np.asarray(self.mark)})
            beside.replace(self.path)
        except OSError as error:
            beside.unlink(missing_ok=True)
            raise InputError(f"the training cannot be kept in '{self.path}': {error.strerror}") from error
