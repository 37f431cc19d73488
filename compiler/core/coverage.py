"""What compression did with each place that it could have compressed, and why it left some alone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import onnx_ir as ir

from .cost import flops
from .sites import Site

__all__ = ["Coverage", "SiteRecord"]

ESTIMATE = 1
"""What each unknown dimension counts as in the arithmetic of a site: only shares are told, and most sites have the same unknown ones."""


@dataclass(frozen=True)
class SiteRecord:
    """One site (see `sites.Site.name`), or another operator by its first output, and what became of it.

    ``form`` is the format it has now ("int8", "int4", "nf4", "fp16", ...), "" where it was left as it is; then ``why`` says why. ``bits`` is what one
    number of its weight takes, scales and zero points included. ``parameters`` is 0 for an operator without a weight; ``flops`` is None where it is not
    known. ``method`` is how the numbers were found ("rtn", "gptq").
    """

    name: str
    kind: str
    form: str = ""
    method: str = ""
    bits: float = 32.0
    why: str = ""
    parameters: int = 0
    flops: int | None = None


@dataclass
class Coverage:
    """What a pass writes down while it compresses; the last word on a place counts.

    Call `take` and `leave` before the operator is replaced: its shapes are read.
    """

    records: dict[str, SiteRecord] = field(default_factory=dict)

    def take(self, place: Site | ir.Node, form: str, bits: float, method: str = "") -> None:
        """The place is compressed: to ``form``, at ``bits`` a number of its weight."""
        self._note(place, form=form, bits=bits, method=method)

    def leave(self, place: Site | ir.Node, why: str) -> None:
        """The place stays as it is. ``why`` is a sentence without its full stop, with the value that decided: "its input is constant (0.5 on all samples)"."""
        self._note(place, why=why, bits=_width(place))

    def complete(self, sites: Iterable[Site], why: str) -> None:
        """Leave every site that nothing was said about."""
        for site in sites:
            if site.name not in self.records:
                self.leave(site, why)

    @property
    def taken(self) -> int:
        """How many places are compressed."""
        return sum(1 for record in self.records.values() if record.form)

    def _note(self, place: Site | ir.Node, *, form: str = "", bits: float = 32.0, method: str = "", why: str = "") -> None:
        node = place.node if isinstance(place, Site) else place
        name = node.outputs[0].name or node.name or node.op_type
        parameters = place.parameters if isinstance(place, Site) else 0
        self.records[name] = SiteRecord(name, node.op_type, form, method, bits, why, parameters, flops(node, ESTIMATE))


def _width(place: Site | ir.Node) -> float:
    dtype = place.weight.dtype if isinstance(place, Site) else None
    return float(dtype.itemsize * 8) if dtype is not None else 32.0
