"""The command line: finds the commands in this folder, and turns whatever goes wrong into one sentence and an exit code.

Exit codes: 0 done and verified; 1 the model could not meet what was asked; 2 the call is wrong; 130 and 143 after Ctrl-C and SIGTERM.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import pkgutil
import signal
import sys
import warnings
from collections.abc import Iterator, Sequence
from types import FrameType

import click

from .. import __version__
from ..compiler.core.errors import GraphwrightError, GraphwrightWarning

INTERRUPTED = 130
TERMINATED = 143


class Terminated(KeyboardInterrupt):
    """SIGTERM: end like Ctrl-C, cleaning up on the way."""


class Commands(click.Group):
    """The commands: every module of this folder that defines ``command``. Only the one that runs is imported."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        names = sorted(info.name for info in pkgutil.iter_modules(importlib.import_module(__package__ or "").__path__))
        return [name for name in names if self.get_command(ctx, name) is not None]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        try:
            module = importlib.import_module(f".{cmd_name}", __package__)
        except ModuleNotFoundError as error:
            if error.name != f"{__package__}.{cmd_name}":
                raise
            return None
        command = getattr(module, "command", None)
        return command if isinstance(command, click.Command) else None


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="graphwright")
@click.option("--debug", is_flag=True, help="Show the traceback when something goes wrong (works after a command, too).")
def graphwright(debug: bool) -> None:
    """Compile neural-network graphs: verified rewrites, measured gains, artifacts to deploy."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code. Nothing but SystemExit ever leaves it."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    try:
        with _own_process():
            code = _run([word for word in words if word != "--debug"])
            sys.stdout.flush()
            return code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except BaseException as error:
        if debug:
            import traceback

            traceback.print_exc()
        return _explain(error)


@contextlib.contextmanager
def _own_process() -> Iterator[None]:
    """End on SIGTERM as on Ctrl-C, and show only our own warnings; afterwards all is as it was."""
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning
        try:
            before = signal.signal(signal.SIGTERM, _terminate)
        except ValueError:  # Not the main thread: signals are somebody else's business.
            yield
            return
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)


def _run(words: list[str]) -> int:
    with graphwright.make_context("graphwright", words) as context:
        answer = graphwright.invoke(context)
    return answer if isinstance(answer, int) else 0


def _explain(error: BaseException) -> int:
    """Say on stderr what happened, in one sentence; returns the exit code."""
    if isinstance(error, click.exceptions.Exit):
        return error.exit_code
    if isinstance(error, click.ClickException):
        return _explain_usage(error)
    if isinstance(error, GraphwrightError):
        _say(f"error: {error}")
        return error.exit_code
    if isinstance(error, Terminated):
        _say("terminated: nothing was left half-written")
        return TERMINATED
    if isinstance(error, (KeyboardInterrupt, click.Abort)):
        _say("interrupted: nothing was left half-written")
        return INTERRUPTED
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else 1
    if isinstance(error, MemoryError):
        _say("error: there is not enough memory. Free some, or compile on a larger machine.")
        return 1
    first = next(iter(str(error).splitlines()), "")
    _say(f"error: {type(error).__name__}: {first} (this is a defect of graphwright; --debug shows the traceback)")
    return 1


def _explain_usage(error: click.ClickException) -> int:
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        _say(error.format_message())
        return error.exit_code
    context = getattr(error, "ctx", None)
    hint = f" '{context.command_path} --help' says more." if context is not None else ""
    _say(f"error: {error.format_message()}{hint}")
    return error.exit_code


def _say(text: str) -> None:
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:
        return


def _terminate(number: int, frame: FrameType | None) -> None:
    raise Terminated


def _show_warning(message: Warning | str, category: type[Warning], filename: str, lineno: int, file: object = None, line: str | None = None) -> None:
    """Our own warnings in one line; those of the libraries below are not the user's business."""
    if issubclass(category, GraphwrightWarning):
        _say(f"warning: {message}")


if __name__ == "__main__":
    sys.exit(main())
