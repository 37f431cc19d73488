"""What is installed: one package, complete, that starts light and works with its core dependencies alone."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("compiler", "passes", "backends", "models", "tools")
LEFT_BEHIND = shutil.ignore_patterns(".*", "__pycache__", "build", "dist", "out", "*.egg-info", "tests")
HEAVY = ("torch", "tvm", "transformers", "onnxruntime", "onnx", "onnx_ir", "onnxscript", "sklearn", "scipy", "networkx")

SMALL_MODEL = """
import numpy as np, onnx
from onnx import helper as h
weight = onnx.numpy_helper.from_array(np.random.default_rng(0).standard_normal((8, 8)).astype(np.float32), "w")
nodes = [h.make_node("Identity", ["x"], ["a"]), h.make_node("MatMul", ["a", "w"], ["b"]), h.make_node("Relu", ["b"], ["y"])]
ports = [h.make_tensor_value_info(name, 1, ["n", 8]) for name in "xy"]
graph = h.make_graph(nodes, "small", ports[:1], ports[1:], [weight])
onnx.save(h.make_model(graph, opset_imports=[h.make_opsetid("", 17)], ir_version=9), "small.onnx")
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from a copy of the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    shutil.copytree(ROOT, folder / "source", ignore=LEFT_BEHIND, symlinks=True)
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "--no-index", "-w", str(folder), str(folder / "source")]
    subprocess.run(build, check=True, stdin=subprocess.DEVNULL)
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_holds_one_package_and_nothing_else(wheel: Path) -> None:
    tops = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"graphwright"}
    assert len(tops) == 2


def test_the_wheel_holds_every_module_and_data_file(wheel: Path) -> None:
    inside = set(zipfile.ZipFile(wheel).namelist())
    wanted = [path.relative_to(ROOT) for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")]
    wanted += [path.relative_to(ROOT) for path in (ROOT / "models" / "data").iterdir()]
    wanted += [Path("__init__.py"), Path("py.typed")]
    assert not [str(path) for path in wanted if f"graphwright/{path.as_posix()}" not in inside]


def test_every_folder_with_modules_is_a_package() -> None:
    bare = {path.parent for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")}
    assert not [str(folder) for folder in bare if not (folder / "__init__.py").is_file()]


def test_tests_and_the_build_script_are_not_installed(wheel: Path) -> None:
    inside = zipfile.ZipFile(wheel).namelist()
    assert not [name for name in inside if name.startswith("graphwright/tests") or Path(name).name in ("setup.py", "conftest.py")]


def test_the_wheel_carries_the_licence_and_the_command(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    (licence,) = [name for name in archive.namelist() if name.endswith("/LICENSE")]
    assert b"Apache License" in archive.read(licence)
    (entry,) = [name for name in archive.namelist() if name.endswith("/entry_points.txt")]
    assert b"graphwright = graphwright.tools.main:main" in archive.read(entry)


@pytest.mark.parametrize("statement", ["import graphwright", "import graphwright.tools.main"])
def test_starting_loads_nothing_heavy(statement: str) -> None:
    code = f"import sys; {statement}; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


def top_imports(path: Path) -> tuple[set[str], set[Path]]:
    """What a module imports when it is imported itself: packages from elsewhere, and files of this package.

    What stands in a function or under TYPE_CHECKING does not count.
    """
    outside: set[str] = set()
    inside: set[Path] = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            outside |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            outside.add(str(node.module).split(".")[0])
        elif isinstance(node, ast.ImportFrom):
            base = path.parents[node.level - 1].joinpath(*(node.module or "").split("."))
            inside |= {file for name in ("", *(alias.name for alias in node.names)) if (file := (base / name).with_suffix(".py")).is_file()}
    return outside - set(sys.stdlib_module_names) - {"graphwright", "__future__"}, inside


def any_imports(path: Path) -> set[str]:
    """The packages that a module imports anywhere, be it in a function."""
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    named = {alias.name.split(".")[0] for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    return named | {str(node.module).split(".")[0] for node in nodes if isinstance(node, ast.ImportFrom) and node.level == 0}


def requirement_names(lines: list[str]) -> set[str]:
    """The packages in a list of requirements, as they are imported."""
    return {re.split(r"[<>=\[]", line)[0].replace("-", "_") for line in lines}


def needing(imports: dict[Path, tuple[set[str], set[Path]]], core: set[str]) -> set[Path]:
    """The modules that cannot be imported with the core dependencies alone, be it because of modules that they import."""
    gated = {path for path, (outside, _) in imports.items() if outside - core}
    while more := {path for path, (_, inside) in imports.items() if inside & gated} - gated:
        gated |= more
    return gated


def test_every_module_gets_by_with_its_dependencies() -> None:
    """Core dependencies are there. Those of an extra may be imported by importers, which nobody imports before they are needed."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    core = requirement_names(project["dependencies"])
    extra = requirement_names([line for name in ("torch", "hf", "tvm", "graphsurgeon") for line in project["optional-dependencies"][name]])
    imports = {path: top_imports(path) for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")}
    assert not {str(path): outside - core - extra for path, (outside, _) in imports.items() if outside - core - extra}, "no dependency of this project"
    gated = needing(imports, core)
    assert not {str(path) for path in gated if not path.is_relative_to(ROOT / "compiler" / "importers")}, "needs an extra to be imported at all"
    assert not core - set().union(*map(any_imports, imports)), "a dependency that nothing imports"


@pytest.mark.slow
def test_it_works_with_its_core_dependencies_alone(wheel: Path, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "bare")], check=True)
    python, command = tmp_path / "bare" / "bin" / "python", tmp_path / "bare" / "bin" / "graphwright"
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}

    def run(*arguments: object) -> str:
        done = subprocess.run([str(part) for part in arguments], cwd=tmp_path, env=clean, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run(python, "-m", "pip", "install", "-q", "--disable-pip-version-check", wheel)
    installed = {item["name"] for item in json.loads(run(python, "-m", "pip", "list", "--format", "json"))}
    assert not installed & {"torch", "apache-tvm", "transformers", "onnxscript"}
    assert "compile" in run(command, "--help")
    run(python, "-c", SMALL_MODEL)
    for target in ("onnx", "ort-cpu"):
        run(command, "compile", "small.onnx", "-o", target, "--target", target)
        assert (tmp_path / target / "manifest.json").is_file()
        run(python, tmp_path / target / "run.py")
