"""The house keeps its order: who may import whom, how large a file gets, and that nothing lies about to be changed."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LAYERS = ("compiler", "passes", "backends", "models", "tools")
MAY_IMPORT = {
    "core": {"core"},
    "passes": {"core", "passes"},
    "backends": {"core", "backends"},
    "compiler": {"core", "passes", "backends", "compiler"},
    "models": {"core", "models"},
    "tools": {"core", "compiler", "tools", "face"},
    "face": {"core", "compiler"},
}
"""The layers of this package that each layer may import. "core" is compiler/core, "face" the package itself (``graphwright.compile``)."""
DEMONSTRATION = "models/demo.py"
"""The demonstration does what a user does, so it alone below models/ may use the face, and print a report."""
FREE_TEST_FOLDERS = {"suites", "bench", "data", "support"}
LINES = 400


def sources() -> list[Path]:
    """Every file of the package."""
    return [ROOT / "__init__.py", *(path for layer in LAYERS for path in sorted((ROOT / layer).rglob("*.py")))]


def title(path: Path) -> str:
    """The path as messages show it."""
    return path.relative_to(ROOT).as_posix()


def layer_of(parts: tuple[str, ...]) -> str:
    """The layer that a module's dotted path (without ``graphwright``) belongs to."""
    if parts[:2] == ("compiler", "core"):
        return "core"
    return parts[0] if parts and parts[0] in LAYERS else "face"


def module_parts(path: Path) -> tuple[str, ...]:
    """``compiler/core/graph.py`` -> ("compiler", "core", "graph"); a folder's ``__init__`` is the folder."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return parts[:-1] if parts[-1] == "__init__" else parts


def imported(path: Path, tree: ast.Module) -> Iterator[tuple[int, tuple[str, ...]]]:
    """(line, dotted path without ``graphwright``) of each import of this package, relative or absolute, at the top or inside a function."""
    package = path.relative_to(ROOT).parent.parts
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                parts = tuple(alias.name.split("."))
                if parts[0] == "graphwright":
                    yield node.lineno, parts[1:]
        elif isinstance(node, ast.ImportFrom):
            base = _base_of(node, package)
            if base is not None:
                yield from ((node.lineno, _deepest(base, alias.name)) for alias in node.names)


def _base_of(node: ast.ImportFrom, package: tuple[str, ...]) -> tuple[str, ...] | None:
    module = tuple(node.module.split(".")) if node.module else ()
    if node.level == 0:
        return module[1:] if module[:1] == ("graphwright",) else None
    assert node.level - 1 <= len(package), f"line {node.lineno} imports from above the package"
    return package[: len(package) - (node.level - 1)] + module


def _deepest(base: tuple[str, ...], name: str) -> tuple[str, ...]:
    """``from ..compiler import core`` imports the folder core, not a name in compiler."""
    inner = ROOT.joinpath(*base, name)
    return (*base, name) if inner.is_dir() or inner.with_suffix(".py").is_file() else base


def allowed(path: Path) -> set[str]:
    """The layers that a file may import."""
    return MAY_IMPORT[layer_of(module_parts(path))] | ({"face", "compiler"} if title(path) == DEMONSTRATION else set())


@pytest.mark.parametrize("path", sources(), ids=title)
def test_a_file_imports_only_the_layers_below_it(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    wrong = [f"line {line} imports {'.'.join(parts) or 'graphwright'}" for line, parts in imported(path, tree) if layer_of(parts) not in allowed(path)]
    assert not wrong, f"{title(path)} may import {', '.join(sorted(allowed(path)))}; but {'; '.join(wrong)}"


def test_a_backend_does_not_import_another_backend() -> None:
    for path in sorted((ROOT / "backends").rglob("*.py")):
        own = module_parts(path)[:2]
        others = [parts for _, parts in imported(path, ast.parse(path.read_text(encoding="utf-8"))) if parts[:1] == ("backends",) and parts[:2] != own]
        assert not others or len(own) == 1, f"{title(path)} imports {others}"


@pytest.mark.parametrize(
    ("statement", "layer"),
    [
        ("import graphwright.passes.fold", "passes"),
        ("from ..backends import ort", "backends"),
        ("from ..backends.ort.target import TARGETS", "backends"),
        ("from . import core", "core"),
        ("from .core.graph import erase", "core"),
        ("from .importers import structure", "compiler"),
        ("from graphwright import tools", "tools"),
        ("import graphwright", "face"),
        ("from .. import compile", "face"),
        ("def late():\n    from ..models import shared", "models"),
    ],
)
def test_an_import_is_seen_however_it_is_written(statement: str, layer: str) -> None:
    ((_, parts),) = imported(ROOT / "compiler" / "driver.py", ast.parse(statement))
    assert layer_of(parts) == layer


@pytest.mark.parametrize("path", sources(), ids=title)
def test_a_file_fits_on_a_few_screens(path: Path) -> None:
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= LINES, f"{title(path)} has {lines} lines; at most {LINES}: split it by what its parts are about"


def test_the_face_is_short() -> None:
    assert len((ROOT / "__init__.py").read_text(encoding="utf-8").splitlines()) <= 40


MUTATORS = {"append", "extend", "insert", "add", "update", "setdefault", "pop", "popitem", "remove", "discard", "clear", "sort", "reverse"}
EMPTY_MAKERS = {"dict", "list", "set", "defaultdict", "OrderedDict", "Counter", "deque", "WeakKeyDictionary", "WeakValueDictionary"}


def module_names(tree: ast.Module) -> dict[str, ast.expr]:
    """What is bound at the top of a module, and to what."""
    bound: dict[str, ast.expr] = {}
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        value = getattr(node, "value", None)
        bound.update({target.id: value for target in targets if isinstance(target, ast.Name) and value is not None})
    return bound


def waits_to_be_filled(value: ast.expr) -> bool:
    """Whether the value is an empty container: it can only be meant to be changed."""
    if isinstance(value, ast.Dict):
        return not value.keys
    if isinstance(value, ast.List):
        return not value.elts
    return isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id in EMPTY_MAKERS and not value.args and not value.keywords


def changed_names(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """(line, name) of each change to something by name: an item set or deleted, a method that changes it, a ``global``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Global):
            yield from ((node.lineno, name) for name in node.names)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in MUTATORS and isinstance(node.func.value, ast.Name):
            yield node.lineno, node.func.value.id
        elif isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store | ast.Del) and isinstance(node.value, ast.Name):
            yield node.lineno, node.value.id


def local_names(tree: ast.Module) -> set[str]:
    """Names that some function binds for itself: changing those changes nothing at the top."""
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)]
    arguments = {argument.arg for function in functions for argument in ast.walk(function.args) if isinstance(argument, ast.arg)}
    stored = {node.id for function in functions for node in ast.walk(function) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    return arguments | stored


def module_state(tree: ast.Module) -> list[str]:
    """What a module keeps at its top and changes later."""
    bound = module_names(tree)
    local = local_names(tree) - {name for node in ast.walk(tree) if isinstance(node, ast.Global) for name in node.names}
    empty = [f"'{name}' starts empty" for name, value in bound.items() if waits_to_be_filled(value)]
    return empty + [f"line {line} changes '{name}'" for line, name in changed_names(tree) if name in bound and name not in local]


@pytest.mark.parametrize("path", sources(), ids=title)
def test_a_module_keeps_no_state(path: Path) -> None:
    found = module_state(ast.parse(path.read_text(encoding="utf-8")))
    assert not found, f"{title(path)} keeps state at module level: {'; '.join(found)}"


@pytest.mark.parametrize(
    "text",
    [
        "REGISTRY = {}\n",
        "rules: list[str] = []\n",
        "KNOWN = {'a': 1}\ndef register(name):\n    KNOWN[name] = 2\n",
        "ALL = [1]\ndef register(rule):\n    ALL.append(rule)\n",
        "count = 0\ndef bump():\n    global count\n    count = 1\n",
    ],
)
def test_a_registry_is_noticed(text: str) -> None:
    assert module_state(ast.parse(text))


def test_a_table_of_constants_is_no_state() -> None:
    assert not module_state(ast.parse("TABLE = {'a': 1}\ndef look(name):\n    found = {}\n    found[name] = TABLE[name]\n    return found\n"))


def test_tests_lie_where_the_code_lies() -> None:
    folders = {path.parent.relative_to(ROOT / "tests") for path in (ROOT / "tests").rglob("test_*.py")}
    strays = [str(folder) for folder in sorted(folders) if folder.parts and folder.parts[0] not in FREE_TEST_FOLDERS and not (ROOT / folder).is_dir()]
    assert not strays, f"tests/{strays[0]} mirrors no folder of the package"


def test_every_layer_has_tests() -> None:
    bare = [layer for layer in LAYERS if not any((ROOT / "tests" / layer).rglob("test_*.py"))]
    assert not bare, f"nothing tests {', '.join(bare)}"
