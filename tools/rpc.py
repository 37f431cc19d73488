"""``graphwright rpc``: devices that tune for other machines. The tracker and the server are TVM's own."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import click

from ..compiler.core.errors import BackendMissing

PORT = 9190
"""TVM's usual port for a tracker."""
FIRST, LAST = 9090, 9199
"""Ports that a server looks for a free one in."""


@click.group()
def command() -> None:
    """Lend this machine's processor to compilations elsewhere (compile --tune-device).

    Whoever reaches these ports can run any code here: use them in a network that you trust.
    """


@command.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen at; 0.0.0.0 for all.")
@click.option("--port", type=int, default=PORT, show_default=True, help="The port to listen at.")
def tracker(host: str, port: int) -> None:
    """Run a tracker: it knows the devices, and gives them out."""
    _run("tvm.exec.rpc_tracker", ["--host", host, "--port", str(port), "--port-end", str(port + 1)])


@command.command()
@click.option("--key", required=True, help="What the device is known as; alike devices share one.")
@click.option("--tracker", default=f"127.0.0.1:{PORT}", show_default=True, metavar="HOST:PORT", help="The tracker to register at.")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen at; 0.0.0.0 for all.")
def server(key: str, tracker: str, host: str) -> None:
    """Run a device: it takes kernels, runs them, and says how long they took."""
    _run("tvm.exec.rpc_server", ["--host", host, "--port", str(FIRST), "--port-end", str(LAST), "--tracker", tracker, "--key", key, "--no-fork"])


def _run(module: str, words: list[str]) -> None:
    if importlib.util.find_spec("tvm") is None:
        raise BackendMissing("remote devices need apache-tvm: pip install 'graphwright[tvm]'")
    if importlib.util.find_spec("tornado") is None:
        raise BackendMissing("remote devices need tornado: pip install 'graphwright[tvm]'")
    done = subprocess.run([sys.executable, "-m", module, *words], check=False)
    sys.exit(done.returncode)
