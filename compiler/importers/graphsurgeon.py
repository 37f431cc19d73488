"""Models that are an onnx-graphsurgeon graph."""

from __future__ import annotations

import onnx_graphsurgeon as gs

from ..core.errors import ModelError
from .assemble import Draft
from .onnx_file import read_proto


def read_surgeon(graph: gs.Graph) -> Draft:
    """A copy of the graph. Raises ModelError when graphsurgeon cannot write it."""
    imports = graph.import_domains
    try:
        graph.import_domains = list(imports) if imports is not None else None
        proto = gs.export_onnx(graph, do_type_check=False)
    except Exception as error:
        raise ModelError(f"onnx-graphsurgeon cannot write the graph: {type(error).__name__}: {error}") from error
    finally:
        graph.import_domains = imports
    return read_proto(proto)
