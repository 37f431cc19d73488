"""Targets as text that another process can read."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import tvm


def target_json(target: tvm.target.Target) -> str:
    """A target as JSON that `tvm.target.Target` takes."""
    return json.dumps(_plain(dict(target.export())), sort_keys=True)


def _plain(item: Any) -> Any:
    from tvm.s_tir.meta_schedule.utils import _json_de_tvm

    if isinstance(item, dict):
        return {str(name): _plain(each) for name, each in item.items()}
    if isinstance(item, (bool, int, float, str)) or item is None:
        return item
    return _plain(dict(item)) if hasattr(item, "items") else _json_de_tvm(item)
