"""Engines on samples in memory, the models that the tests ask them about, and an eye on what is run at once."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from graphwright.backends.ort.backend import OrtBackend
from graphwright.compiler.calibration.engine import Engine
from graphwright.compiler.calibration.opening import open_calibration
from graphwright.compiler.core.backend import Array, Runner, Sample
from graphwright.compiler.core.sites import Site
from graphwright.compiler.core.statistics import SiteStatistics

from .graphs import read


def engine(model: ir.Model, samples: object, **options: object) -> Engine:
    """An engine on samples in memory."""
    return Engine(open_calibration(samples, model), OrtBackend(), **options)  # type: ignore[arg-type]


def expect(found: SiteStatistics, rows: np.ndarray) -> None:
    """The statistics are those of X = ``rows`` [N, K]."""
    exact = rows.astype(np.float64)
    assert found.count == len(rows)
    np.testing.assert_allclose(found.moment, exact.T @ exact / len(rows), rtol=1e-12, atol=1e-13)
    np.testing.assert_array_equal(found.low, exact.min(axis=0))
    np.testing.assert_array_equal(found.high, exact.max(axis=0))
    np.testing.assert_array_equal(found.abs_max, np.abs(exact).max(axis=0))
    np.testing.assert_allclose(found.abs_mean, np.abs(exact).mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(found.mean, exact.mean(axis=0), rtol=1e-9, atol=1e-13)


def chain(length: int, width: int = 4) -> ir.Model:
    """``length`` products, one after the other."""
    rng = np.random.default_rng(5)
    steps = "  ".join(f"v{place + 1} = MatMul(v{place}, w{place})" for place in range(length))
    text = f"""<ir_version: 9, opset_import: ["" : 17]> g (float[n, {width}] v0) => (float[n, {width}] v{length}) {{ {steps} }}"""
    return read(text, **{f"w{place}": rng.standard_normal((width, width), dtype=np.float32) for place in range(length)})


def rows(*sizes: int, width: int = 4) -> list[dict[str, np.ndarray]]:
    """A sample of so many rows each."""
    rng = np.random.default_rng(6)
    return [{"v0": rng.standard_normal((size, width), dtype=np.float32)} for size in sizes]


def collected(found: Iterator[tuple[Site, list[SiteStatistics]]]) -> list[tuple[str, list[np.ndarray]]]:
    """Sites by name, with all arrays of their statistics."""
    return [(site.name, [getattr(item, name) for item in groups for name in ("moment", "low", "mean", "rows")]) for site, groups in found]


class Watched:
    """A backend that remembers what its runners made at once."""

    name = "watched"

    def __init__(self) -> None:
        self.inner = OrtBackend()
        self.open = 0
        self.most_open = 0
        self.largest: list[int] = []
        self.runs = 0

    def reference(self, model: ir.Model) -> Runner:
        """A runner that is counted while it is open."""
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        return _Counted(self, self.inner.reference(model))  # type: ignore[return-value]


class _Counted:
    def __init__(self, owner: Watched, inner: Runner) -> None:
        self.owner, self.inner = owner, inner

    def run(self, sample: Sample) -> dict[str, Array]:
        found = self.inner.run(sample)
        self.owner.runs += 1
        self.owner.largest.append(sum(array.nbytes for array in found.values() if isinstance(array, np.ndarray)))
        return found

    def close(self) -> None:
        self.owner.open -= 1
        self.inner.close()


def watched(model: ir.Model, samples: object, budget: int) -> tuple[Engine, Watched]:
    """An engine, and the eye on what it runs."""
    backend = Watched()
    return Engine(open_calibration(samples, model), backend, budget=budget, shelf=None), backend  # type: ignore[arg-type]
