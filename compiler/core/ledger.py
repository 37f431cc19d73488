"""The ledger: every change to a graph asks here first and is written down.

Because each atomic change passes through `Ledger.permit`, a pass that broke a model can be run again
with only its first k changes (``limit``) to find the one to blame, and once more without that one (``denied``).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from .records import Rewrite


@dataclass
class Ledger:
    """Permits and records rewrites.

    ``limit`` is how many rewrites may happen in all (None: no bound). ``denied`` holds (rule, where) pairs that must not happen.
    """

    limit: int | None = None
    denied: frozenset[tuple[str, str]] = frozenset()
    entries: list[Rewrite] = field(default_factory=list)

    def permit(self, rule: str, where: str) -> bool:
        """Whether ``rule`` may change the graph at ``where`` (the first output of its root node); records it if so."""
        if (rule, where) in self.denied:
            return False
        if self.limit is not None and len(self.entries) >= self.limit:
            return False
        self.entries.append(Rewrite(len(self.entries), rule, where))
        return True
