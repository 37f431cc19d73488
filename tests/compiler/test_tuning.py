"""What asking for tuning means for a compilation."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import onnx_ir as ir
import pytest

from graphwright.compiler.cache import TUNING, Cache
from graphwright.compiler.core.errors import UsageError
from graphwright.compiler.core.tuning import Tuning
from graphwright.compiler.driver import compile_model
from graphwright.compiler.request import Request
from graphwright.compiler.targets import find_backend, generates
from graphwright.compiler.tuning import RECORDS, tuning_for, tuning_state

needs_tvm = pytest.mark.skipif(importlib.util.find_spec("tvm") is None, reason="tvm is not installed")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of its own."""
    monkeypatch.setenv("GRAPHWRIGHT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def product() -> ir.Model:
    """A small product with what follows it."""
    return ir.from_onnx_text("""<ir_version: 10, opset_import: ["" : 21]>
        g (float[8,16] x, float[16,16] w) => (float[8,16] y) { z = MatMul(x, w) y = Relu(z) }""")


def test_nothing_is_tuned_for_a_target_without_generated_kernels() -> None:
    assert not generates("ort-cpu") and not generates("onnx") and generates("tvm-cpu") and generates("cpu")
    with pytest.raises(UsageError, match="nothing to tune"):
        find_backend("ort-cpu", Tuning(trials=4))
    assert find_backend("ort-cpu", Tuning()).name == "ort", "a database alone asks for nothing"


def test_the_database_lies_beside_the_cache_unless_a_folder_is_named(home: Path) -> None:
    assert tuning_for(None) == Tuning(database=home / TUNING)
    assert tuning_for(Tuning(trials=4, database=Path("mine"))).database == Path("mine")


def test_tuning_without_a_place_for_what_it_finds_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAPHWRIGHT_CACHE", "off")
    assert tuning_for(None).database is None
    with pytest.raises(UsageError, match="--tune-database"):
        tuning_for(Tuning(trials=4))


def test_new_records_make_a_new_state_and_emptying_the_cache_leaves_them(home: Path) -> None:
    tuning = tuning_for(Tuning(trials=4))
    before = tuning_state(tuning)
    path = home / TUNING / "llvm-0" / RECORDS
    path.parent.mkdir(parents=True)
    path.write_text("[]\n")
    assert before != tuning_state(tuning) != tuning_state(tuning_for(Tuning(trials=5)))
    Cache(home).clear()
    assert path.exists()


@needs_tvm
@pytest.mark.slow
def test_a_compilation_tunes_and_the_next_one_finds_what_it_found(home: Path) -> None:
    backend = find_backend("tvm-cpu", tuning_for(Tuning(trials=2)))
    first = backend.build(product(), (), lambda _: None)
    assert "2 schedules measured now and 0 before" in first.remarks[0]
    again = find_backend("tvm-cpu", tuning_for(Tuning(trials=2))).build(product(), (), lambda _: None)
    assert "0 schedules measured now and 2 before" in again.remarks[0]
    with compile_model(product(), None, Request(target="tvm-cpu", level=1, tuning=Tuning(trials=2))) as artifact:
        assert artifact.report.target == "tvm-cpu"
