"""Who decides by measuring where several kernels would do."""

from __future__ import annotations

from typing import Protocol

import onnx_ir as ir

from .reasons import Skip


class Judge(Protocol):
    """Times a piece of a model against its replacement on this machine."""

    def refusal(self, rule: str, before: ir.Model, after: ir.Model) -> Skip | None:
        """Why the replacement is not worth it; None when it is faster. Both pieces have the same inputs and outputs."""
