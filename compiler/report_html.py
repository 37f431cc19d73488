"""The report as one web page that needs nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from html import escape

from .report import Report
from .report_table import describe_compression, describe_divergence, describe_error, describe_latency, describe_size, fired

STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:72rem;margin:2rem auto;padding:0 1rem;color:#1b1f24;background:#fff}
h1{font-size:1.5rem}h2{font-size:1.1rem;margin-top:2rem}
table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.3rem .7rem .3rem 0;border-bottom:1px solid #d8dee4;vertical-align:top}
.verdict{font-weight:600;font-size:1.1rem}code{background:#f3f5f7;padding:0 .2rem;overflow-wrap:anywhere}
@media (prefers-color-scheme:dark){body{color:#e6edf3;background:#0d1117}th,td{border-color:#30363d}code{background:#161b22}}
"""


def render(report: Report) -> str:
    """A self-contained page: no scripts, no links out, everything from the model escaped."""
    return "".join(
        [
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">',
            f"<title>{escape(report.model)} for {escape(report.target)}</title><style>{STYLE}</style></head><body>\n",
            f"<h1>{escape(report.model)} for {escape(report.target)}</h1>\n",
            f'<p class="verdict">{escape(report.verdict)}</p>\n',
            *_sections(report),
            "</body></html>\n",
        ]
    )


def _sections(report: Report) -> Iterator[str]:
    yield _table("Summary", ("", ""), _summary(report))
    passes = ((step.text, fired(step), step.drift, f"{step.nodes_before} → {step.nodes_after}",
               describe_error(step.difference, step.drift), f"{step.seconds:.3f} s + {step.verify_seconds:.3f} s check") for step in report.passes)  # fmt: skip
    yield _table("Passes", ("pass", "fired", "contract", "nodes", "error", "time"), passes)
    undone = ((entry.rule, entry.where, entry.reason, entry.replay or "") for entry in report.rolled_back)
    yield _table("Undone rewrites", ("rule", "where", "why", "replay folder"), undone)
    trials = ((trial.candidate, describe_latency(trial.latency), "shipped" if trial.shipped else "") for trial in report.trials)
    yield _table("Candidates timed against the input", ("candidate", "latency", ""), trials)
    runtimes = ((entry.name, entry.failure or f"{entry.ms:.3g} ms", f"{entry.ratio:.2f}", "shipped" if entry.chosen else "") for entry in report.runtimes)
    yield _table("Runtimes", ("runtime", "latency", "of the first one's", ""), runtimes)
    kernels = ((entry.rule, ", ".join(entry.shapes), f"{entry.before_ms:.3g} ms", f"{entry.after_ms:.3g} ms", "used" if entry.chosen else "")
               for entry in report.kernels)  # fmt: skip
    yield _table("Kernel choices", ("rule", "input shapes", "without", "with", ""), kernels)
    yield _table("Divergence from the input", ("output", ""), ((entry.output, describe_divergence(entry)) for entry in report.divergence))
    yield _table("Compression by site", ("site", "operator", "format", "bits", "weights", "alone it makes", "why not"), _places(report))
    yield _table("Skipped", ("what", "why"), ((entry.what, entry.why) for entry in report.skipped))
    yield _table("Notes", ("",), ((note,) for note in report.notes))
    yield _table("Operators", ("operator", "before", "after"), _operators(report))
    ports = [("input", port) for port in report.inputs] + [("output", port) for port in report.outputs]
    yield _table("Signature", ("", "name", "dtype", "shape"), ((kind, port.name, port.dtype, str(port.shape)) for kind, port in ports))


def _summary(report: Report) -> Iterator[tuple[str, str]]:
    yield "size", describe_size(report.before, report.after)
    if report.latency is not None:
        yield "latency", describe_latency(report.latency)
    if report.verification is not None:
        found = report.verification
        yield "verified", f"on {found.samples} samples ({found.given} given) against {found.reference}; worst error {describe_error(found.worst, '')}"
    if report.accuracy is not None:
        known = report.accuracy
        allowed = "" if known.allowed is None else f", {known.allowed:g} allowed"
        yield "accuracy", f"{known.metric}: {known.before:.6g} → {known.after:.6g} (drop {known.drop:.3g}{allowed})"
    if report.compression is not None:
        yield "compressed", describe_compression(report.compression)
        if report.compression.calibration:
            yield "calibrated", report.compression.calibration
        if report.compression.put_back:
            yield "put back", ", ".join(report.compression.put_back)
    yield "recipe", report.recipe or "(none)"
    yield "level, precision, seed", f"{report.level}, {report.precision}, {report.seed}"
    yield "options", ", ".join(f"{name}={value}" for name, value in report.options.items()) or "defaults"
    yield "versions", ", ".join(f"{name} {version}" for name, version in {"graphwright": report.graphwright, **report.versions}.items())
    yield "time", ", ".join(f"{stage} {seconds:.2f} s" for stage, seconds in report.seconds.items())


def _places(report: Report) -> Iterator[tuple[str, ...]]:
    for place in report.compression.places if report.compression is not None else ():
        noise = f"{place.sensitivity:.2e} noise" if place.sensitivity is not None else ""
        form = f"{place.form} ({place.method})" if place.method else place.form
        yield place.name, place.kind, form, f"{place.bits:.2f}", str(place.parameters), noise, place.why


def _operators(report: Report) -> Iterator[tuple[str, str, str]]:
    before, after = report.before.operators, report.after.operators
    for name in sorted({*before, *after}):
        yield name, str(before.get(name, 0)), str(after.get(name, 0))


def _table(title: str, header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """A titled table; nothing when it has no rows."""
    lines = ["<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>\n" for row in rows]
    if not lines:
        return ""
    head = "<tr>" + "".join(f"<th>{escape(cell)}</th>" for cell in header) + "</tr>\n" if any(header) else ""
    return f"<h2>{escape(title)}</h2>\n<table>{head}{''.join(lines)}</table>\n"
