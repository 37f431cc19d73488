"""Folders appear whole or not at all, whoever is killed."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from graphwright.compiler import atomic
from graphwright.compiler.core.errors import ArtifactError


def fill(folder: Path, text: str) -> None:
    with atomic.new_folder(folder) as draft:
        for name in ("a", "b", "c"):
            (draft / name).write_text(text)


def content(folder: Path) -> set[str]:
    return {path.read_text() for path in folder.iterdir()}


def test_a_new_folder_appears_and_an_old_one_is_replaced(tmp_path: Path) -> None:
    fill(tmp_path / "out", "one")
    fill(tmp_path / "out", "two")
    assert content(tmp_path / "out") == {"two"}
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_an_old_folder_is_replaced_where_two_folders_cannot_be_swapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atomic, "swap", lambda first, second: False)
    fill(tmp_path / "out", "one")
    fill(tmp_path / "out", "two")
    assert content(tmp_path / "out") == {"two"}
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_folder_set_aside_by_a_run_that_died_is_put_back(tmp_path: Path) -> None:
    fill(tmp_path / ".out.abcd1234.previous", "one")
    fill(tmp_path / ".out.other.abcd1234.previous", "not mine")
    atomic.recover(tmp_path / "out")
    assert content(tmp_path / "out") == {"one"}


def test_nothing_is_left_when_the_block_fails(tmp_path: Path) -> None:
    fill(tmp_path / "out", "one")
    with pytest.raises(KeyboardInterrupt), atomic.new_folder(tmp_path / "out") as draft:
        (draft / "a").write_text("half")
        raise KeyboardInterrupt
    assert content(tmp_path / "out") == {"one"}
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_link_to_a_folder_is_followed(tmp_path: Path) -> None:
    fill(tmp_path / "real", "one")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    fill(tmp_path / "link", "two")
    assert (tmp_path / "link").is_symlink()
    assert content(tmp_path / "real") == {"two"}


@pytest.mark.parametrize("act", [fill, lambda target, text: atomic.write_file(target, text.encode()), lambda target, text: atomic.probe(target)])
def test_a_file_where_a_folder_is_needed_is_one_sentence(tmp_path: Path, act) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ArtifactError, match="a file stands where a folder is needed"):
        act(tmp_path / "file" / "out", "text")


def test_a_disk_without_room_is_one_sentence_and_leaves_nothing(tmp_path: Path) -> None:
    fill(tmp_path / "out", "one")
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, old[1]))
    try:
        with pytest.raises(ArtifactError, match="cannot write .*larger than the system allows"), atomic.new_folder(tmp_path / "out") as draft:
            (draft / "big").write_bytes(bytes(10_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    assert content(tmp_path / "out") == {"one"}
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="the disk is full"), atomic.writing(tmp_path), Path("/dev/full").open("wb", buffering=0) as full:
        full.write(b"x")


def test_leftovers_of_the_dead_go_and_those_in_use_stay(tmp_path: Path) -> None:
    dead, alive = tmp_path / ".out.aaaaaaaa.partial", tmp_path / ".out.bbbbbbbb.partial"
    for folder in (dead, alive):
        folder.mkdir()
        os.utime(folder, (time.time() - 60, time.time() - 60))
    lease = atomic.hold(alive, exclusive=True)
    fill(tmp_path / "out", "one")
    atomic.release(lease)
    assert not dead.exists()
    assert alive.exists()


def test_killing_a_save_at_any_moment_leaves_the_old_folder_or_the_new_one(tmp_path: Path) -> None:
    program = textwrap.dedent(
        """
        import sys
        from pathlib import Path
        from graphwright.compiler.atomic import new_folder
        for round in range(1000000):
            with new_folder(Path(sys.argv[1])) as draft:
                for name in "abcdefgh":
                    (draft / name).write_text(str(round) * 1000)
            print(round, flush=True)
        """
    )
    target = tmp_path / "out"
    for attempt in range(12):
        worker = subprocess.Popen([sys.executable, "-c", program, str(target)], stdout=subprocess.PIPE)
        assert worker.stdout is not None
        worker.stdout.readline()
        time.sleep(0.003 * attempt)
        worker.send_signal(signal.SIGKILL)
        worker.communicate()
        assert len(list(target.iterdir())) == 8
        assert len(content(target)) == 1
