"""Rows of a long benchmark as they are found, kept so that one that was stopped goes on where it was."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from tables import Row

from graphwright.compiler.cache import hash_sources

Made = TypeVar("Made")
KEPT_ROW = "row.json"
ROOT = Path(__file__).parents[2]
Finding = tuple[Row, list[str]]
"""A row, and the claims that do not hold there."""


class Journal:
    """Findings by key in ``path``, one a line. They count only as long as the ``sources`` (below the root of the repository) stay what they were."""

    def __init__(self, path: Path, sources: tuple[str, ...]) -> None:
        self._path = path
        self._stamp = stamp(sources)
        self._known = self._read()

    def find(self, key: str, look: Callable[[], Finding]) -> Finding:
        """What is known of a key, or else what ``look`` finds, which is written down and printed."""
        if key not in self._known:
            row, claims = look()
            line = json.dumps({"stamp": self._stamp, "key": key, "row": row, "claims": claims}, default=str)
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a", encoding="utf-8") as file:
                file.write(line + "\n")
            self._known[key] = row, claims
            print(f"{key}: {'; '.join(claims) or row.get('refused') or 'in order'}", flush=True)
        return self._known[key]

    def knows(self, key: str) -> bool:
        """Whether there is a finding."""
        return key in self._known

    def _read(self) -> dict[str, Finding]:
        if not self._path.exists():
            return {}
        lines = [json.loads(line) for line in self._path.read_text(encoding="utf-8").splitlines() if line.endswith("}")]
        return {line["key"]: (line["row"], line["claims"]) for line in lines if line["stamp"] == self._stamp}


def stamp(sources: tuple[str, ...]) -> str:
    """What these files and the modules in these folders hold, as a number."""
    found = hashlib.sha256()
    for source in sources:
        place = ROOT / source
        for file in sorted(place.rglob("*.py")) if place.is_dir() else [place]:
            found.update(file.read_bytes())
    return found.hexdigest()[:16]


def made_and_timed(place: Path, make: Callable[[], Made], measure: Callable[[Made], Row], seconds: float) -> Row | None:
    """A row timed from what was made in ``place``, both from its file where the same code wrote them; None when only making is asked for (0 ``seconds``)."""
    file, state = place / KEPT_ROW, hash_sources()
    kept = json.loads(file.read_text()) if file.is_file() else {}
    if kept.get("code") != state:
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        kept = {"code": state, "made": make()}
        file.write_text(json.dumps(kept, default=str))
    if "row" not in kept and seconds > 0:
        kept["row"] = measure(kept["made"])
        file.write_text(json.dumps(kept, default=str))
    return kept.get("row")
