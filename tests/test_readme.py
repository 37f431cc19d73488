"""What the README promises is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import graphwright
from graphwright.compiler.pipeline import LEVELS
from graphwright.compiler.targets import FOLDERS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = ["compile", "optimize", "export", "inspect", "bench", "diff", "explain", "bisect", "replay", "passes"]


def test_every_command_exists_and_is_named() -> None:
    for name in [*COMMANDS, "cache"]:
        assert (ROOT / "tools" / f"{name}.py").is_file()
        assert re.search(rf"\b{name}\b", README)


def test_every_target_and_level_is_in_a_table() -> None:
    tables = "\n".join(line for line in README.splitlines() if line.startswith("|"))
    assert not [name for name in FOLDERS if f"`{name}`" not in tables]
    assert not [level for level in LEVELS if f"| {level} |" not in tables]


def test_the_names_the_readme_uses_exist() -> None:
    for name in set(re.findall(r"graphwright\.([a-z]+)\(", README)):
        assert callable(getattr(graphwright, name))


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "models/README.md"])
def test_links_and_paths_lead_somewhere(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    paths = [path for path in re.findall(r"`((?:compiler|passes|backends|models|tools|tests)/[\w./]*)`", text) if "NAME" not in path]
    home = (ROOT / page).parent
    assert not [path for path in links if not (home / path).exists()]
    assert not [path for path in paths if not (ROOT / path).exists()]


def test_the_extras_the_readme_names_exist() -> None:
    import tomllib

    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    (line,) = [line for line in README.splitlines() if line.startswith("Extras:")]
    assert set(re.findall(r"`([a-z]+)`", line)) >= set(extras) - {"dev"}


def test_the_quick_start_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Python block of the README, word for word, on a small module."""
    import numpy as np
    import onnx
    import torch

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    module = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.GELU(), torch.nn.Linear(16, 4)).eval()
    example = torch.randn(2, 8, generator=torch.Generator().manual_seed(0))
    torch.onnx.export(module, (example,), "model.onnx", dynamo=True, verbose=False, external_data=False)
    names = {"module": module, "example": example, "onnx_proto": onnx.load("model.onnx"), "array": example.numpy()}
    (block,) = re.findall(r"```python\n(.*?)```", README, re.S)
    exec(compile(block, "README.md", "exec"), names)
    np.testing.assert_allclose(names["outputs"].numpy(), module(example).detach().numpy(), rtol=1e-4, atol=1e-5)
    assert isinstance(names["proto"], onnx.ModelProto)
    assert (tmp_path / "out" / "run.py").is_file()
