"""Files and folders that appear whole or not at all.

A folder is written under a temporary name beside its target, synced to disk, and swapped in with one system call. Whoever is killed on
the way leaves the old folder or the new one. The temporary folder is locked while it is written, so that a later run can tell a dead
leftover from one in use.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import glob
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from .core.errors import ArtifactError

SETTLING_SECONDS = 2.0
"""A leftover younger than this may belong to a run that has not taken its lock yet."""
RANDOM = "?" * 8
"""What `tempfile` puts in a name, as a pattern."""


@contextlib.contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """A temporary folder to fill; when the block ends well, it takes the place of ``target`` and of everything in it.

    Raises ArtifactError with the reason when the disk is full or the place cannot be written; ``target`` is then as it was.
    """
    target = target.resolve()
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        recover(target)
        _clear_leftovers(target)
        folder = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".partial", dir=target.parent))
        lease = hold(folder, exclusive=True)
        try:
            folder.chmod(0o777 & ~_umask())
            yield folder
            _sync_tree(folder)
            _put_in_place(folder, target)
            _sync(target.parent)
        except ArtifactError as error:
            raise ArtifactError(str(error).replace(str(folder), str(target))) from error
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            release(lease)


def write_file(target: Path, content: bytes) -> None:
    """Write one file whole or not at all. Raises ArtifactError with the reason."""
    target = target.resolve()
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".partial", dir=target.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            Path(name).chmod(0o666 & ~_umask())
            Path(name).replace(target)
        finally:
            Path(name).unlink(missing_ok=True)


@contextlib.contextmanager
def writing(target: Path) -> Iterator[None]:
    """Turn an operating-system error into one sentence about ``target``."""
    try:
        yield
    except OSError as error:
        raise ArtifactError(f"cannot write '{target}': {_reason(error)}") from error


def probe(target: Path) -> None:
    """Raise ArtifactError now when ``target`` could not be written later, before any long work is done."""
    target = target.resolve()
    with writing(target):
        if target.exists() and not target.is_dir():
            raise ArtifactError(f"cannot write '{target}': a file is in its place. Choose another folder.")
        existing = next(folder for folder in target.parents if folder.exists())
        Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".partial", dir=existing)).rmdir()


def recover(target: Path) -> None:
    """Put back the old folder that a run set aside and then died before putting the new one in its place.

    Only needed on file systems that cannot swap two folders in one step.
    """
    if target.exists():
        return
    aside = sorted(target.parent.glob(f".{glob.escape(target.name)}.{RANDOM}.previous"), key=lambda folder: folder.stat().st_mtime)
    if aside:
        aside[-1].rename(target)


def hold(folder: Path, *, exclusive: bool) -> int | None:
    """Lock a folder for as long as the returned handle lives; None where folders cannot be locked or somebody else holds it."""
    try:
        import fcntl
    except ImportError:
        return None
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        return None
    return handle


def release(lease: int | None) -> None:
    """Let go of what `hold` locked."""
    if lease is not None:
        os.close(lease)


def swap(first: Path, second: Path) -> bool:
    """Exchange two folders in one step; False where the system or the file system cannot."""
    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None) if os.name == "posix" else None
    if call is None:
        return False
    here, exchange = -100, 2
    if call(here, os.fsencode(first), here, os.fsencode(second), exchange) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
        return False
    raise OSError(code, os.strerror(code), str(second))


def _put_in_place(folder: Path, target: Path) -> None:
    if not target.exists() or not any(target.iterdir()):
        folder.rename(target)
        return
    if swap(folder, target):
        return
    aside = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".previous", dir=target.parent))
    target.rename(aside)
    try:
        folder.rename(target)
    except BaseException:
        aside.rename(target)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def _clear_leftovers(target: Path) -> None:
    for folder in target.parent.glob(f".{glob.escape(target.name)}.{RANDOM}.partial"):
        if not folder.is_dir() or time.time() - folder.stat().st_mtime < SETTLING_SECONDS:
            continue
        lease = hold(folder, exclusive=True)
        if lease is not None:
            shutil.rmtree(folder, ignore_errors=True)
            release(lease)


def _sync_tree(folder: Path) -> None:
    for path in sorted(folder.rglob("*")):
        _sync(path)
    _sync(folder)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.EACCES):
            raise
    finally:
        os.close(handle)


def _reason(error: OSError) -> str:
    sentences = {
        errno.ENOSPC: "the disk is full. Free some space or choose another place.",
        errno.EDQUOT: "the disk quota is used up. Free some space or choose another place.",
        errno.EFBIG: "the file would be larger than the system allows here. Choose another place.",
        errno.EROFS: "the file system is read-only. Choose another place.",
        errno.EACCES: "permission denied. Choose another place, or change who may write there.",
        errno.ENOTDIR: "a file stands where a folder is needed. Choose another place.",
        errno.EEXIST: "a file stands where a folder is needed. Choose another place.",
    }
    where = f" ('{error.filename}')" if error.filename else ""
    return sentences.get(error.errno or 0, f"{error.strerror or error}{where}.")


def _umask() -> int:
    """The umask; it can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
