"""The cache serves only what nothing has changed about."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from graphwright.compiler import cache as cache_module
from graphwright.compiler.atomic import hold, release
from graphwright.compiler.cache import Cache, hash_parts, hash_sources, machine, open_cache

KEY = {"graph": "g1", "weights": "w1", "target": "ort-cpu"}


def keep(cache: Cache, key: dict[str, str], size: int = 10) -> bool:
    def save(folder: Path) -> None:
        folder.mkdir()
        (folder / "model.onnx").write_bytes(bytes(size))

    return cache.put(key, "model.onnx", save)


def test_what_was_kept_is_found_again(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    assert cache.find(KEY) is None
    assert keep(cache, KEY)
    found = cache.find(KEY)
    assert found is not None and (found / "model.onnx").read_bytes() == bytes(10)


@pytest.mark.parametrize("component", KEY)
def test_any_component_that_differs_misses_and_is_named(tmp_path: Path, component: str) -> None:
    cache = Cache(tmp_path)
    keep(cache, KEY)
    changed = {**KEY, component: "changed"}
    assert cache.find(changed) is None
    answer = cache.explain(changed)
    assert not answer.hit and answer.differs == (component,)
    assert answer.nearest is not None and dict(answer.nearest.key) == KEY


def test_the_nearest_entry_is_the_one_that_differs_least(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    keep(cache, {"graph": "x", "weights": "x", "target": "ort-cpu"})
    keep(cache, KEY)
    assert cache.explain({**KEY, "weights": "w2"}).differs == ("weights",)


def test_an_exact_entry_is_a_hit(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    keep(cache, KEY)
    assert cache.explain(KEY).hit


@pytest.mark.parametrize("damage", ["key.json gone", "key.json cut", "artifact gone", "key of another"])
def test_a_broken_entry_is_ignored_and_made_again(tmp_path: Path, damage: str) -> None:
    cache = Cache(tmp_path)
    keep(cache, KEY)
    folder = cache.entries()[0].folder
    if damage == "key.json gone":
        (folder / "key.json").unlink()
    elif damage == "key.json cut":
        (folder / "key.json").write_text((folder / "key.json").read_text()[:20])
    elif damage == "artifact gone":
        (folder / "artifact").rename(tmp_path / "elsewhere")
    else:
        (folder / "key.json").write_text('{"key": {"graph": "other"}, "label": "m"}')
    assert cache.find(KEY) is None
    assert cache.entries() == []
    assert keep(cache, KEY)
    assert cache.find(KEY) is not None


def test_what_was_not_used_for_longest_goes_first(tmp_path: Path) -> None:
    cache = Cache(tmp_path, limit_bytes=2600)
    keys = [{"graph": str(number)} for number in range(3)]
    for age, key in zip((300, 200), keys, strict=False):
        keep(cache, key, 1000)
        entry = cache.entries()[0]
        os.utime(entry.folder / "key.json", (entry.used - age, entry.used - age))
    cache.find(keys[0])
    keep(cache, keys[2], 1000)
    assert {entry.key["graph"] for entry in cache.entries()} == {"0", "2"}


def test_an_entry_in_use_is_not_dropped(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    keep(cache, KEY)
    lease = hold(cache.entries()[0].artifact, exclusive=False)
    assert cache.clear() == 0
    release(lease)
    assert cache.clear() == 1
    assert cache.find(KEY) is None


def test_clearing_touches_nothing_but_entries(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    cache = Cache(tmp_path)
    keep(cache, KEY)
    (tmp_path / "kernels.jsonl").write_text("")
    assert cache.clear() == 1
    assert (tmp_path / "photos").is_dir()
    assert not (tmp_path / "kernels.jsonl").exists()


def test_what_is_too_large_is_not_kept(tmp_path: Path) -> None:
    cache = Cache(tmp_path, limit_bytes=1000)
    assert not keep(cache, KEY, 900)
    assert list(tmp_path.iterdir()) == []


def test_a_cache_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    cache = Cache(tmp_path / "file" / "cache")
    assert not keep(cache, KEY)
    assert cache.find(KEY) is None


def test_the_environment_is_read_when_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAPHWRIGHT_CACHE", str(tmp_path / "one"))
    first = open_cache()
    monkeypatch.setenv("GRAPHWRIGHT_CACHE", "off")
    assert first is not None and first.folder == tmp_path / "one"
    assert open_cache() is None
    monkeypatch.delenv("GRAPHWRIGHT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    default = open_cache()
    assert default is not None and default.folder == tmp_path / "xdg" / "graphwright"


def test_where_parts_are_cut_counts() -> None:
    assert hash_parts(["ab", "c"]) != hash_parts(["a", "bc"])


def test_a_changed_pass_changes_the_hash_of_the_sources(tmp_path: Path) -> None:
    for folder in cache_module.SOURCES:
        (tmp_path / folder / "deep").mkdir(parents=True)
        (tmp_path / folder / "deep" / "one.py").write_text("x = 1\n")
    before = hash_sources(tmp_path)
    assert hash_sources(tmp_path) == before
    (tmp_path / "passes" / "deep" / "one.py").write_text("x = 2\n")
    assert hash_sources(tmp_path) != before
    assert hash_sources() == hash_sources()


def test_the_machine_is_named_the_same_each_time() -> None:
    assert machine() == machine()
    assert "cores" in machine()
