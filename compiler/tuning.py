"""Where tuning keeps what it found, and what asking for it means for a target."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from .cache import TUNING, hash_parts, open_cache
from .core.backend import Backend
from .core.errors import UsageError
from .core.tuning import Profiled, Tunable, Tuning

RECORDS = "records.jsonl"


def tuning_for(asked: Tuning | None) -> Tuning:
    """What a user asked for, with the database beside the user's cache where none was named (none when the cache is switched off)."""
    tuning = asked or Tuning()
    if tuning.database is not None:
        return tuning
    cache = open_cache()
    if cache is None and tuning.asked:
        raise UsageError("tuning needs a place for what it finds: the cache is switched off (GRAPHWRIGHT_CACHE); name a folder with --tune-database")
    return dataclasses.replace(tuning, database=cache.folder / TUNING if cache is not None else None)


def with_tuning(backend: Backend, target: str, tuning: Tuning | None) -> Backend:
    """The backend as it tunes. Raises UsageError when tuning is asked of one that has nothing to tune."""
    if tuning is None:
        return backend
    if isinstance(backend, Tunable):
        return backend.tuned(tuning)
    if tuning.asked:
        raise UsageError(f"kernels of the target {target} are not generated, so there is nothing to tune; compile for tvm-cpu or cpu")
    return backend


def with_profile(backend: Backend, target: str, tuning: Tuning | None) -> Backend:
    """The backend as it plans with what was measured of its kernels; where tuning is asked for, what a plan wants to know is measured."""
    if not isinstance(backend, Profiled):
        return backend
    from .profile_database import Measuring, open_profile

    database = open_profile(target, backend.runtime())
    local = tuning is not None and tuning.asked and not tuning.device
    return backend.profiled(Measuring(database, backend.kernel_seconds) if local else database)


def tuning_state(tuning: Tuning) -> str:
    """What tuning asks for and what was found so far, as a text that changes whenever a build could come out differently."""
    files = sorted(tuning.database.glob(f"*/{RECORDS}")) if tuning.database is not None else []
    found = [(path.parent.name, _stamp(path)) for path in files]
    return hash_parts([repr((tuning.trials, tuning.minutes, tuning.device, found))])


def _stamp(path: Path) -> tuple[int, int]:
    facts = path.stat()
    return facts.st_size, facts.st_mtime_ns
