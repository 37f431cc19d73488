"""The profile database: what was measured is found again, by whoever asks, and by nobody who asks for something else."""

from __future__ import annotations

import multiprocessing
import sqlite3
from collections.abc import Sequence
from pathlib import Path

import onnx_ir as ir
import pytest

from graphwright.compiler.core.errors import ArtifactError
from graphwright.compiler.core.graph import bind_opsets
from graphwright.compiler.core.planning.plan import Constraints, Profile
from graphwright.compiler.core.planning.planner import plan
from graphwright.compiler.core.shapes import infer_shapes
from graphwright.compiler.profile_database import FILE, Measuring, ProfileDatabase, open_profile

HEAD = '<ir_version: 10, opset_import: ["" : 21]>\n'
TEXT = "g (float[2,8] x, float[8,8] w) => (float[8,2] y) <float two = {2}> { m = MatMul(x, w) t = Transpose(m) y = Pow(t, two) }"


def nodes(text: str = TEXT) -> list[ir.Node]:
    return list(read(text).graph)


def read(text: str) -> ir.Model:
    model = ir.from_onnx_text(HEAD + text)
    bind_opsets(model)
    infer_shapes(model)
    return model


@pytest.fixture
def database(tmp_path: Path) -> ProfileDatabase:
    return ProfileDatabase(tmp_path / "deep" / FILE, "tvm-cpu", "tvm 0.27")


def test_what_was_measured_is_found_by_another_process_of_the_same_target(database: ProfileDatabase, tmp_path: Path) -> None:
    assert database.cost(nodes()) is None
    database.record(nodes(), 0.5)
    other = ProfileDatabase(tmp_path / "deep" / FILE, "tvm-cpu", "tvm 0.27")
    assert other.cost(nodes()) == database.cost(nodes()) == 0.5
    assert [(item.operators, item.seconds) for item in other.measurements()] == [("MatMul+Transpose+Pow", 0.5)]


@pytest.mark.parametrize(("target", "runtime"), [("tvm-cuda", "tvm 0.27"), ("tvm-cpu", "tvm 0.28")])
def test_another_target_or_runtime_knows_nothing_of_it(database: ProfileDatabase, tmp_path: Path, target: str, runtime: str) -> None:
    database.record(nodes(), 0.5)
    assert ProfileDatabase(tmp_path / "deep" / FILE, target, runtime).cost(nodes()) is None


@pytest.mark.parametrize(
    "change",
    [("[2,8]", "[3,8]"), ("<float two = {2}>", "<float two = {3}>"), ("Transpose(m)", "Transpose<perm=[0,1]>(m)"), ("float[8,8] w", "double[8,8] w")],
)
def test_another_shape_constant_attribute_or_dtype_is_another_kernel(database: ProfileDatabase, change: tuple[str, str]) -> None:
    database.record(nodes(), 0.5)
    text = TEXT.replace(*change)
    if "double" in change[1]:
        text = text.replace("float", "double")
    assert database.cost(nodes(text.replace("[8,2] y", "[?,?] y"))) is None


def test_names_do_not_count(database: ProfileDatabase) -> None:
    database.record(nodes(), 0.5)
    assert database.cost(nodes(TEXT.replace("m ", "other ").replace("(m)", "(other)"))) == 0.5


def test_the_smaller_of_two_measurements_stays(database: ProfileDatabase) -> None:
    for seconds in (0.5, 0.3, 0.4):
        database.record(nodes(), seconds)
    assert database.cost(nodes()) == 0.3


def _write(path: Path, first: int) -> None:
    database = ProfileDatabase(path, "t", "r")
    for step in range(first, first + 40):
        database.record(nodes(TEXT.replace("{2}", f"{{{step}}}")), 1.0 + step)
        database.record(nodes(), 1.0 / (1 + step))
    database.close()


def test_several_processes_write_at_once_and_nothing_is_lost(tmp_path: Path) -> None:
    path = tmp_path / FILE
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_write, args=(path, 100 * number)) for number in range(1, 4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    assert [writer.exitcode for writer in writers] == [0, 0, 0]
    database = ProfileDatabase(path, "t", "r")
    assert len(database.measurements()) == 3 * 40 + 1 and database.cost(nodes()) == 1.0 / 340


def test_a_file_that_is_something_else_is_named(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text("these are not the kernels you are looking for" * 100)
    with pytest.raises(ArtifactError, match=FILE):
        ProfileDatabase(tmp_path / FILE, "t", "r")
    assert (tmp_path / FILE).read_text().startswith("these are not")


def test_a_write_that_was_cut_off_leaves_what_was_there(database: ProfileDatabase, tmp_path: Path) -> None:
    database.record(nodes(), 0.5)
    half = sqlite3.connect(tmp_path / "deep" / FILE)
    half.execute("BEGIN IMMEDIATE")
    half.execute("DELETE FROM kernels")
    half.close()
    assert ProfileDatabase(tmp_path / "deep" / FILE, "tvm-cpu", "tvm 0.27").cost(nodes()) == 0.5


def test_what_is_not_known_is_measured_once(database: ProfileDatabase) -> None:
    seen: list[str] = []

    def measure(model: ir.Model) -> float | None:
        seen.append("+".join(node.op_type for node in model.graph))
        return None if "Pow" in seen[-1] else 0.25

    profile = Measuring(database, measure)
    chain = nodes()
    assert [profile.cost(chain[:2]), profile.cost(chain[:2]), profile.cost(chain), profile.cost(chain)] == [0.25, 0.25, None, None]
    assert seen == ["MatMul+Transpose", "MatMul+Transpose+Pow"]


def test_the_planner_asks_the_database(database: ProfileDatabase) -> None:
    model = read("g (float[2,8] x, float[8,8] w) => (float[8,2] y) { m = MatMul(x, w) y = Transpose(m) }")
    product, transposed = model.graph
    for block, seconds in (([product], 2.0), ([transposed], 1.0), ([product, transposed], 5.0)):
        database.record(block, seconds)
    assert [block.title for block in plan(model, Constraints(), database).blocks] == ["MatMul", "Transpose"]
    database.record([product, transposed], 2.5)
    assert [block.title for block in plan(model, Constraints(), database).blocks] == ["MatMul+Transpose"]


def test_without_a_cache_it_lives_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAPHWRIGHT_CACHE", "off")
    database: Profile = open_profile("t", "r")
    found: Sequence[ir.Node] = nodes()
    assert database.cost(found) is None


def test_it_lies_beside_the_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GRAPHWRIGHT_CACHE", str(tmp_path))
    open_profile("t", "r").record(nodes(), 1.0)
    assert (tmp_path / FILE).is_file()
