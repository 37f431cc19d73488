"""Weights that stay on disk: data files, and tensors that are ranges of them.

A file is held open from import on, so a model keeps its weights when the file is replaced by another of the same name. Reading and copying
go through file ranges and never map pages; only an array that somebody asked for has its pages in memory, until it is dropped.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import stat
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import onnx
import onnx_ir as ir

from ..core.errors import ModelError

CHUNK = 4 << 20
HELD_FILES = 128
_PACKED_BITS = (2, 4, 6)
_NO_KERNEL_COPY = {errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM, errno.EXDEV, errno.EBADF}


class WeightFile:
    """A data file. ``size`` is in bytes.

    ``held`` keeps it open. Otherwise (a model of thousands of files) each use opens it and makes sure that it still is the file that was imported.
    ``owner`` lives as long as the file is needed.
    """

    def __init__(self, path: Path, held: bool = True, owner: object = None) -> None:
        self.path = path
        self._owner = owner
        self._map: mmap.mmap | None = None
        self._held: int | None = None
        descriptor = _open(path)
        self._identity = _identity(descriptor)
        self.size = os.fstat(descriptor).st_size
        if held:
            self._held = descriptor
            weakref.finalize(self, os.close, descriptor)
        else:
            os.close(descriptor)

    @contextlib.contextmanager
    def _descriptor(self) -> Iterator[int]:
        if self._held is not None:
            yield self._held
            return
        try:
            descriptor = _open(self.path)
        except OSError as error:
            raise ModelError(f"the data file '{self.path}' cannot be read any more: {error.strerror}") from None
        try:
            if _identity(descriptor) != self._identity:
                raise ModelError(f"the data file '{self.path}' was replaced since the model was imported: import it again")
            yield descriptor
        finally:
            os.close(descriptor)

    def chunks(self, offset: int, length: int, chunk: int = CHUNK) -> Iterator[memoryview]:
        """The bytes of a range, piece by piece; each piece is overwritten by the next. Raises ModelError when the file shrank meanwhile."""
        buffer = memoryview(bytearray(min(chunk, length)))
        end = offset + length
        with self._descriptor() as descriptor:
            while offset < end:
                piece = buffer[: min(len(buffer), end - offset)]
                self._fill(descriptor, piece, offset)
                yield piece
                offset += len(piece)

    def read(self, offset: int, length: int) -> bytes:
        """The bytes of a range."""
        content = bytearray(length)
        with self._descriptor() as descriptor:
            self._fill(descriptor, memoryview(content), offset)
        return bytes(content)

    def copy(self, offset: int, length: int, target: BinaryIO) -> None:
        """Append a range to ``target``, inside the kernel when both are files."""
        done, number = 0, _number_of(target)
        if number is not None:
            target.flush()
            with self._descriptor() as descriptor:
                done = _kernel_copy(descriptor, offset, length, number)
        for piece in self.chunks(offset + done, length - done):
            target.write(piece)

    def is_unchanged(self) -> bool:
        """Whether what lies at ``path`` is still the file that was imported."""
        try:
            descriptor = _open(self.path)
        except OSError:
            return False
        try:
            return _identity(descriptor) == self._identity
        finally:
            os.close(descriptor)

    def array(self, offset: int, count: int, dtype: np.dtype) -> np.ndarray:
        """A read-only array over a range; its pages leave memory when it is dropped."""
        mapped = self._mapped()
        values = np.frombuffer(mapped, dtype=dtype, count=count, offset=offset)
        if values.nbytes >= mmap.PAGESIZE and hasattr(mmap, "MADV_DONTNEED"):
            weakref.finalize(values, _let_go, mapped, offset, values.nbytes).atexit = False
        return values

    def _mapped(self) -> mmap.mmap:
        if self._map is not None:
            return self._map
        with self._descriptor() as descriptor:
            mapped = mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)
        if self._held is not None:
            self._map = mapped
        return mapped

    def _fill(self, descriptor: int, target: memoryview, offset: int) -> None:
        done = 0
        while done < len(target):
            piece = _read_at(descriptor, offset + done, target[done:])
            if piece == 0:
                raise ModelError(f"the data file '{self.path}' ends at byte {offset + done:,}, before the weights that were in it at import")
            done += piece


def _open(path: Path) -> int:
    return os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0))


def _identity(descriptor: int) -> tuple[int, ...]:
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _number_of(file: BinaryIO) -> int | None:
    """The descriptor of a file; None for what only looks like one."""
    try:
        return file.fileno()
    except (AttributeError, OSError):
        return None


def _read_at(descriptor: int, offset: int, target: memoryview) -> int:
    if hasattr(os, "preadv"):
        return os.preadv(descriptor, [target], offset)
    os.lseek(descriptor, offset, os.SEEK_SET)
    piece = os.read(descriptor, len(target))
    target[: len(piece)] = piece
    return len(piece)


def _kernel_copy(source: int, offset: int, length: int, target: int) -> int:
    """How many bytes the kernel copied; the rest is for us."""
    done = 0
    while hasattr(os, "copy_file_range") and done < length:
        try:
            piece = os.copy_file_range(source, target, min(length - done, 1 << 30), offset_src=offset + done)
        except OSError as error:
            if error.errno in _NO_KERNEL_COPY:
                return done
            raise
        if piece == 0:
            return done
        done += piece
    return done


def _let_go(mapped: mmap.mmap, offset: int, length: int) -> None:
    """Take the whole pages of a range out of memory; whoever still reads them gets them from the file again."""
    first = -(-offset // mmap.PAGESIZE) * mmap.PAGESIZE
    last = (offset + length) // mmap.PAGESIZE * mmap.PAGESIZE
    if last > first:
        mapped.madvise(mmap.MADV_DONTNEED, first, last - first)


class FileTensor(ir.ExternalTensor):
    """A tensor that is a range of a `WeightFile`; ``location`` is the file's path as the model gave it."""

    def __init__(self, file: WeightFile, offset: int, dtype: ir.DataType, shape: ir.Shape, *, name: str, location: str, folder: Path) -> None:
        length = byte_length(dtype, tuple(shape.numpy()))
        super().__init__(location, offset, length, dtype, shape=shape, name=name, base_dir=folder)
        self.file = file

    @property
    def begin(self) -> int:
        """Where the range begins, in bytes."""
        return self.offset or 0

    def chunks(self) -> Iterator[memoryview]:
        """The bytes, piece by piece; each piece is overwritten by the next."""
        return self.file.chunks(self.begin, self.nbytes)

    def numpy(self) -> np.ndarray:
        """The values, mapped; dtypes of less than a byte are unpacked into memory."""
        if self.size == 0:
            return np.empty(self.shape.numpy(), dtype=self.dtype.numpy())
        if self.dtype.bitwidth in _PACKED_BITS:
            packed = onnx.TensorProto(data_type=self.dtype.value, dims=self.shape.numpy(), raw_data=self.tobytes())
            return ir.serde.TensorProtoTensor(packed).numpy()
        dtype = np.dtype(self.dtype.numpy()).newbyteorder("<")
        return self.file.array(self.begin, self.size, dtype).reshape(self.shape.numpy())

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        values = self.numpy()
        return values if dtype is None else values.astype(dtype, copy=bool(copy))

    def is_unchanged(self) -> bool:
        """Whether the file at ``path`` is still the one that was imported."""
        return self.file.is_unchanged()

    def tobytes(self) -> bytes:
        """The bytes, read into memory."""
        return self.file.read(self.begin, self.nbytes)

    def tofile(self, file: BinaryIO) -> None:
        """Append the bytes to ``file``."""
        self.file.copy(self.begin, self.nbytes, file)


def byte_length(dtype: ir.DataType, shape: tuple[int, ...]) -> int:
    """How many bytes a tensor takes in a file; dtypes of less than a byte are packed."""
    count = 1
    for dim in shape:
        count *= dim
    return -(-count * dtype.bitwidth // 8)


class DataFolder:
    """The folder that a model's external weights must lie in. Each file in it is opened once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._files: dict[str, WeightFile] = {}

    def tensor(self, name: str, entries: dict[str, str], dtype: ir.DataType, shape: tuple[int, ...]) -> FileTensor:
        """The weight called ``name`` that lies where ``entries`` (location, offset, length) say. Raises ModelError when it cannot."""
        location = entries.get("location", "")
        file = self._file(name, location)
        offset = _number(name, "offset", entries.get("offset", "0"))
        needed = byte_length(dtype, shape)
        length = _number(name, "length", entries.get("length", str(needed)))
        if length != needed and "length" in entries and length != 0:
            raise ModelError(f"the weight '{name}' takes {needed:,} bytes ({dtype.name} {list(shape)}), but the model gives {length:,} of '{location}' to it")
        if offset + needed > file.size:
            raise ModelError(
                f"the weight '{name}' ends at byte {offset + needed:,} of '{location}', which has only {file.size:,}: "
                "the data file is cut short or belongs to another model"
            )
        return FileTensor(file, offset, dtype, ir.Shape(shape), name=name, location=location, folder=self.folder)

    def _file(self, name: str, location: str) -> WeightFile:
        if location not in self._files:
            self._files[location] = self._open(name, location)
        return self._files[location]

    def _open(self, name: str, location: str) -> WeightFile:
        path = self._inside(name, location)
        try:
            mode = path.stat().st_mode
            if not stat.S_ISREG(mode):
                raise ModelError(f"the data of the weight '{name}' is in '{location}', which is not a file")
            return WeightFile(path, held=len(self._files) < HELD_FILES, owner=self)
        except FileNotFoundError:
            raise ModelError(f"the data file '{location}' of the weight '{name}' is missing: put it into '{self.folder}'") from None
        except OSError as error:
            raise ModelError(f"the data file '{path}' of the weight '{name}' cannot be read: {error.strerror}") from None

    def _inside(self, name: str, location: str) -> Path:
        """Where ``location`` really is, if that is in the folder."""
        if not location or "\0" in location:
            raise ModelError(f"the weight '{name}' is external but does not say in which file")
        relative = Path(location)
        if relative.is_absolute() or relative.drive or Path(os.path.normpath(location)).parts[:1] == ("..",):
            raise ModelError(f"the data of the weight '{name}' is said to be in '{location}', outside the model's folder: that is refused")
        try:
            folder, real = self.folder.resolve(), (self.folder / relative).resolve()
        except (OSError, RuntimeError):
            raise ModelError(f"the data file '{location}' of the weight '{name}' is a link that leads nowhere") from None
        if not real.is_relative_to(folder):
            raise ModelError(
                f"the data file '{location}' of the weight '{name}' is a link out of the model's folder to '{real}': copy the file itself into the folder"
            )
        return real


def _number(name: str, key: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise ModelError(f"the {key} of the external weight '{name}' is '{text[:40]}', which is not a number of bytes")
    return int(text)
