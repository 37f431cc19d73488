"""The command line: quick to answer, one sentence when something is wrong, the right exit code, nothing left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from graphwright.compiler.core.errors import GraphwrightError, UsageError
from graphwright.tools import main as main_module
from graphwright.tools.main import main

COMMANDS = ["bench", "bisect", "cache", "compile", "diff", "explain", "export", "inspect", "optimize", "passes", "replay"]
HEAVY = ["numpy", "onnx", "onnx_ir", "onnxruntime", "torch", "pydantic", "rich"]
Start = Callable[..., subprocess.Popen[str]]


def test_help_lists_every_command_and_loads_nothing_heavy() -> None:
    program = f"""
import sys
from graphwright.tools.main import main
code = main(["--help"])
print("LOADED", [name for name in {HEAVY!r} if name in sys.modules])
sys.exit(code)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "LOADED []" in done.stdout
    assert [name for name in COMMANDS if f"\n  {name} " not in done.stdout] == []


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself_and_speaks_json(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--help"]) == 0
    text = capsys.readouterr().out
    assert "Usage:" in text
    if name == "cache":
        assert all(part in text for part in ("list", "clear", "explain"))
        assert main([name, "list", "--help"]) == 0
        text = capsys.readouterr().out
    if name == "bench":
        assert "methods" in text
        assert [main([name, kind, "--help"]) for kind in ("models", "methods")] == [0, 0]
        text = capsys.readouterr().out
        assert text.count("--json") >= 2
    assert "--json" in text


def test_the_package_runs_as_a_module() -> None:
    done = subprocess.run([sys.executable, "-m", "graphwright", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("graphwright, version ")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["brew"], "No such command 'brew'"),
        (["compile"], "Missing argument 'MODEL'"),
        (["compile", "m.onnx", "--teapot"], "--teapot"),
        (["compile", "nowhere.onnx"], "there is no file or folder 'nowhere.onnx'"),
        (["compile", "nowhere.py:net"], "there is no file 'nowhere.py'"),
        (["compile", "x", "--target", "moon"], "'moon' is not one of"),
        (["compile", "x", "--target", "moon:1"], "'moon' is not one of"),
        (["compile", "x", "--level", "9"], "9 is not in the range"),
        (["compile", "/", "--dim", "batch"], "--dim takes NAME=SIZE"),
        (["compile", "/", "--metric", "accuracy"], "--metric takes file.py:function, not 'accuracy'"),
        (["compile", "/", "--inputs", "nowhere.npz"], "there is no file 'nowhere.npz'"),
        (["passes", "no-such-rule"], "there is no pass or rule 'no-such-rule'"),
    ],
)
def test_a_wrong_call_is_one_sentence_and_exit_code_2(words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ") and captured.err.count("\n") == 1
    assert sentence in captured.err


def raising(error: BaseException) -> click.Command:
    @click.command()
    def command() -> None:
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (GraphwrightError("the model is sad"), 1, "error: the model is sad\n"),
        (UsageError("not like this"), 2, "error: not like this\n"),
        (KeyboardInterrupt(), 130, "interrupted: nothing was left half-written\n"),
        (main_module.Terminated(), 143, "terminated: nothing was left half-written\n"),
        (MemoryError(), 1, "error: there is not enough memory. Free some, or compile on a larger machine.\n"),
        (ValueError("two\nlines"), 1, "error: ValueError: two (this is a defect of graphwright; --debug shows the traceback)\n"),
        (SystemExit(3), 3, ""),
    ],
)
def test_whatever_goes_wrong_is_one_sentence(
    error: BaseException, code: int, sentence: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(main_module.Commands, "get_command", lambda self, ctx, name: raising(error))
    assert main(["anything"]) == code
    assert capsys.readouterr().err == sentence


def test_debug_shows_the_traceback(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(main_module.Commands, "get_command", lambda self, ctx, name: raising(ValueError("inside")))
    assert main(["anything", "--debug"]) == 1
    assert "Traceback (most recent call last)" in capsys.readouterr().err


def test_a_reader_that_went_away_is_met_with_silence() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run([sys.executable, "-m", "graphwright", "passes", "--json"], stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (1, "")


def test_long_work_shows_what_it_is_at_on_a_terminal_only(model: Path, start: Start) -> None:
    import pty

    ours, theirs = pty.openpty()
    process = start("optimize", str(model), "-o", "out.onnx", stderr=theirs)
    os.close(theirs)
    shown = b""
    with contextlib.suppress(OSError):
        while part := os.read(ours, 4096):
            shown += part
    os.close(ours)
    assert process.wait() == 0
    assert "importing" in shown.decode() and "writing out.onnx" in shown.decode()
    silent = start("optimize", str(model), "-o", "out.onnx")
    assert silent.communicate()[1] == ""


WAIT = """
import time
def build(self, *args):
    print("building", flush=True)
    for _ in range(600):  # One long sleep does not hear of a signal that came just before it.
        time.sleep(0.1)
backend.OrtBackend.build = build
"""


@pytest.mark.parametrize(("number", "code", "word"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")])
def test_a_signal_ends_it_in_one_line_and_leaves_the_old_artifact(
    model: Path, tmp_path: Path, start: Start, number: signal.Signals, code: int, word: str
) -> None:
    first = start("compile", str(model), "-o", "out", "--no-cache")
    assert first.communicate()[1] == "" and first.returncode == 0
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    names = sorted(path.name for path in tmp_path.iterdir())
    process = start("compile", str(model), "-o", "out", "--no-cache", before=WAIT)
    assert process.stdout is not None and process.stdout.readline() == "building\n"
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == code
    assert errors == f"{word}: nothing was left half-written\n"
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == names


def test_a_kill_at_any_moment_leaves_a_whole_artifact(model: Path, tmp_path: Path, start: Start) -> None:
    from graphwright import load

    again = """
from graphwright.compiler.driver import compile_model
from graphwright.compiler.request import Request
artifact = compile_model("gelu.onnx", None, Request(cache=False))
for number in range(10**6):
    artifact.save("out")
    print("saved", flush=True)
"""
    for attempt in range(6):
        process = start("--version", before=again)
        assert process.stdout is not None and process.stdout.readline() == "saved\n"
        time.sleep(0.005 * attempt)
        process.kill()
        process.communicate()
        with load(tmp_path / "out") as artifact:
            assert artifact.report.shipped == "optimized"


def test_a_disk_without_room_is_one_sentence_and_leaves_nothing(model: Path, tmp_path: Path, start: Start) -> None:
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (300, 300))"
    process = start("compile", str(model), "-o", "out", "--no-cache", before=limit)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert errors.startswith("error: ") and errors.count("\n") == 1
    assert str(tmp_path / "out") in errors and "too large" in errors
    assert sorted(path.name for path in tmp_path.iterdir()) == ["gelu.onnx"]


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0 or not Path("/proc/filesystems").exists(), reason="mounting a small disk needs root on Linux"
)
def test_a_full_disk_is_one_sentence_and_leaves_nothing(model: Path, tmp_path: Path, start: Start) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k", "none", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip("this sandbox does not let tests mount a disk")
    try:
        process = start("compile", str(model), "-o", "disk/out", "--no-cache")
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 1
        assert errors.startswith("error: ") and errors.count("\n") == 1 and "full" in errors
        assert list(disk.iterdir()) == []
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_an_output_that_cannot_be_written_is_one_sentence(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("x")
    assert main(["compile", str(model), "-o", str(tmp_path / "file" / "out")]) == 1
    assert "a file stands where a folder is needed" in capsys.readouterr().err
