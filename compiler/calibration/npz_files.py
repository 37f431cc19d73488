"""Samples in .npz files, read one at a time: a file that holds thousands is never in memory as a whole."""

from __future__ import annotations

import functools
import math
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np

from ..cache import hash_parts
from ..core.backend import Sample
from ..core.errors import InputError
from .fit import Cut, Fit

__all__ = ["NpzFiles", "hash_file"]

PIECE = 1 << 20


@dataclass(frozen=True)
class Header:
    """What a member of an .npz says of its array."""

    shape: tuple[int, ...]
    dtype: np.dtype
    fortran: bool
    start: int


@dataclass
class NpzFiles:
    """One sample or many for each file (see `Fit`), called by its path below ``root``."""

    files: Sequence[Path]
    fit: Fit
    root: Path
    _cuts: dict[Path, Cut | None] = field(default_factory=dict, init=False)

    def items(self) -> Iterator[tuple[str, Callable[[], Sample]]]:
        """As `data.Feed.items`. A file that cannot be read is one bad sample."""
        for path in self.files:
            title = path.relative_to(self.root).as_posix()
            if path not in self._cuts:
                try:
                    self._cuts[path] = self.fit.cut({name: header.shape for name, header in _headers(path).items()})
                except InputError as error:
                    yield title, functools.partial(_fail, str(error))
                    continue
            cut = self._cuts[path]
            if cut is None:
                yield title, functools.partial(self._whole, path)
            else:
                with _Stack(path, cut) as stack:
                    for place in range(cut.count):
                        yield f"{title}[{place}]", functools.partial(self._part, stack, place)

    def digest(self) -> str:
        """As `data.Feed.digest`."""
        return hash_parts(hash_file(path) for path in self.files)

    def _whole(self, path: Path) -> Sample:
        try:
            with np.load(path, allow_pickle=False) as content:
                arrays = {name: content[name] for name in content.files}
        except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
            raise InputError(f"'{path}' cannot be read as .npz: {error}") from None
        return self.fit.checked(arrays)

    def _part(self, stack: _Stack, place: int) -> Sample:
        return self.fit.checked(stack.read(place))


class _Stack:
    """The arrays of one file, read piece by piece; opened when the first piece is."""

    def __init__(self, path: Path, cut: Cut) -> None:
        self._path, self._cut = path, cut
        self._headers: Mapping[str, Header] = {}
        self._archive: zipfile.ZipFile | None = None
        self._members: dict[str, IO[bytes]] = {}
        self._turned: dict[str, np.ndarray] = {}

    def __enter__(self) -> _Stack:
        return self

    def __exit__(self, *_: object) -> None:
        for member in self._members.values():
            member.close()
        if self._archive is not None:
            self._archive.close()

    def read(self, place: int) -> dict[str, np.ndarray]:
        """One sample's arrays."""
        try:
            if self._archive is None:
                self._open()
            return {name: self._piece(name, header, place) for name, header in self._headers.items()}
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise InputError(f"'{self._path}' cannot be read as .npz: {error}") from None

    def _open(self) -> None:
        self._headers = _headers(self._path)
        self._archive = zipfile.ZipFile(self._path)
        for name, header in self._headers.items():
            if header.fortran:
                with np.load(self._path, allow_pickle=False) as content:
                    self._turned[name] = content[name]
            else:
                self._members[name] = self._archive.open(f"{name}.npy")

    def _piece(self, name: str, header: Header, place: int) -> np.ndarray:
        if name in self._turned:
            return np.asarray(self._cut(self._turned[name], place))
        shape = header.shape[1:] if self._cut.step == 0 else (self._cut.step, *header.shape[1:])
        size = math.prod(shape) * header.dtype.itemsize
        member = self._members[name]
        member.seek(header.start + place * size)
        content = member.read(size)
        if len(content) != size:
            raise EOFError(f"the array '{name}' ends early")
        return np.frombuffer(bytearray(content), header.dtype).reshape(shape)


def hash_file(path: Path) -> str:
    """The hash of a file's content."""
    with path.open("rb") as file:
        return hash_parts(iter(lambda: file.read(PIECE), b""))


def _headers(path: Path) -> dict[str, Header]:
    """Name, shape and type of each array, without reading it. Raises InputError when this is no .npz of plain arrays."""
    try:
        with zipfile.ZipFile(path) as archive:
            return {name.removesuffix(".npy"): _header(archive, name) for name in archive.namelist() if name.endswith(".npy")}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"'{path}' cannot be read as .npz: {error}") from None


def _header(archive: zipfile.ZipFile, name: str) -> Header:
    readers: dict[tuple[int, int], Any] = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    with archive.open(name) as member:
        version = np.lib.format.read_magic(member)
        if version not in readers:
            raise ValueError(f"'{name}' has the format version {version}")
        shape, fortran, dtype = readers[version](member)
        if dtype.hasobject:
            raise ValueError(f"'{name}' holds Python objects, which are not read")
        return Header(shape, dtype, fortran and len(shape) > 1, member.tell())


def _fail(reason: str) -> Sample:
    raise InputError(reason)
