"""What predicts how fast a schedule is, so that only the promising ones are measured; kept beside the records.

XGBoost where it is installed (it is what MetaSchedule was made with), else chance: of the schedules that evolution proposes, any are measured.
"""

from __future__ import annotations

import contextlib
import importlib.util
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tvm.s_tir.meta_schedule import TuneContext
    from tvm.s_tir.meta_schedule.search_strategy import MeasureCandidate

FILE = "costs.tar"
WARM_UP = 20
"""Measurements before the first prediction."""


class CostModel:
    """A model of costs that is read from a folder when it is there, and written back by `save`."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE
        self.learns = importlib.util.find_spec("xgboost") is not None
        self.tvm: Any = _learner() if self.learns else _chance()
        self._changed = False
        if self.learns and self.path.exists():
            try:
                self.tvm.load(str(self.path))
            except Exception:  # a file that cannot be read is started anew: it only ever saves time
                self.tvm = _learner()

    def learn(self, context: TuneContext, candidates: Sequence[MeasureCandidate], results: Sequence[Any]) -> None:
        """Take measurements into account."""
        if self.learns:
            self.tvm.update(context, list(candidates), list(results))
            self._changed = True

    def save(self) -> None:
        """Write what was learned; a folder that cannot be written forgets it."""
        if not self._changed:
            return
        draft = self.path.with_name(f"{self.path.stem}.partial.tar")
        with contextlib.suppress(OSError, RuntimeError), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.tvm.save(str(draft))
            draft.replace(self.path)
            self._changed = False


def _learner() -> Any:
    from tvm.s_tir.meta_schedule.cost_model import XGBModel

    return XGBModel(num_warmup_samples=WARM_UP, num_tuning_cores=1, verbose_eval=0)


def _chance() -> Any:
    from tvm.s_tir.meta_schedule.cost_model import RandomModel

    return RandomModel(seed=1)
