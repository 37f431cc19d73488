"""The report for a person at a terminal."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from .report import (
    CompressionEntry,
    DifferenceEntry,
    DivergenceEntry,
    KernelEntry,
    LatencyEntry,
    ModelEntry,
    PassEntry,
    ReductionEntry,
    Report,
    RollbackEntry,
    RuntimeEntry,
    SiteEntry,
)

SHOWN_ROLLBACKS = 10
SHOWN_KERNELS = 10
SHOWN_SITES = 10
MEBIBYTE = 2**20


def print_report(report: Report, console: Console) -> None:
    """Print the verdict, what each pass did, and what it gained. Colours and widths follow the console."""
    console.print(f"[bold]{escape(report.model)}[/] for [bold]{escape(report.target)}[/]", highlight=False)
    if report.changes or report.rolled_back:
        console.print(pass_table(report.passes))
    for line in _lines(report):
        console.print(line, highlight=False, soft_wrap=True)
    console.print(f"[bold]{escape(report.verdict)}[/]", highlight=False, soft_wrap=True)


def pass_table(passes: Sequence[PassEntry]) -> Table:
    """One row for each pass that did something: what fired, the size of the graph, the error against the input, the time with checks."""
    table = Table(Column("pass", no_wrap=True), "fired", "nodes", "error", "time", box=None, pad_edge=False, header_style="bold")
    for step in passes:
        if not step.changes and not step.rolled_back:
            continue
        table.add_row(
            escape(step.text),
            escape(fired(step)),
            f"{step.nodes_before} -> {step.nodes_after}" if step.nodes_before != step.nodes_after else str(step.nodes_after),
            escape(describe_error(step.difference, step.drift)),
            f"{step.seconds + step.verify_seconds:.2f} s",
        )
    return table


def fired(step: PassEntry) -> str:
    """``fuse-gelu x12, fuse-bias-gelu x6``, or how many changes when they have no names."""
    if step.rules:
        return ", ".join(name if count == 1 else f"{name} x{count}" for name, count in step.rules.items())
    return str(step.changes) if step.changes else "-"


def describe_error(difference: DifferenceEntry | None, drift: str) -> str:
    """The worst error of a comparison with the bound it had to keep."""
    if difference is None or drift == "lossy":
        return "-"
    if difference.max_abs == 0:
        return "none"
    if not math.isfinite(difference.max_abs) and not difference.broken:
        return "only where numbers overflow"
    if difference.reason and not difference.broken and drift != "exact":
        return f"{difference.max_abs:.2g} ({difference.reason})"
    return f"{difference.max_abs:.2g} of {difference.allowed:.2g} allowed" if drift != "exact" else f"{difference.max_abs:.2g}"


def describe_latency(latency: LatencyEntry) -> str:
    """Before, after and the speedup with its 95 % confidence interval."""
    speedup = 1 / latency.ratio if latency.ratio else float("inf")
    low, high = (1 / bound if bound else float("inf") for bound in (latency.high, latency.low))
    return (
        f"{latency.before_ms:.3g} ms -> {latency.after_ms:.3g} ms, {speedup:.2f}x (95 % confidence {low:.2f}x to {high:.2f}x, {latency.rounds} rounds in turns)"
    )


def describe_size(before: ModelEntry, after: ModelEntry) -> str:
    """Nodes and weights before and after."""
    return f"{before.nodes} -> {after.nodes} nodes, {before.weight_bytes / MEBIBYTE:.2f} -> {after.weight_bytes / MEBIBYTE:.2f} MiB of weights"


def _lines(report: Report) -> Iterator[str]:
    yield f"size      {describe_size(report.before, report.after)}"
    if report.latency is not None:
        yield f"latency   {describe_latency(report.latency)}"
    for trial in report.trials:
        if not trial.shipped:
            yield f"tried     {escape(trial.candidate)}: {describe_latency(trial.latency)}"
    yield from map(runtime_line, report.runtimes)
    yield from kernel_lines(report.kernels)
    if report.verification is not None:
        found = report.verification
        worst = describe_error(found.worst, "")
        yield f"verified  on {found.samples} samples ({found.given} given) against {escape(found.reference)}; worst error {worst}"
    if report.accuracy is not None:
        known = report.accuracy
        allowed = "" if known.allowed is None else f", {known.allowed:g} allowed"
        yield f"accuracy  {escape(known.metric)}: {known.before:.6g} -> {known.after:.6g} (drop {known.drop:.3g}{allowed})"
    if report.compression is not None:
        yield from compression_lines(report.compression)
    if report.reduction is not None:
        yield f"reduced   {describe_reduction(report.reduction)}"
    for entry in report.divergence:
        yield f"diverges  {escape(entry.output)}: {describe_divergence(entry)}"
    if report.cache is not None and report.cache.hit:
        yield f"cache     from {report.cache.key[:12]}"
    yield from undone_lines(report.rolled_back)
    for skipped in report.skipped:
        yield f"skipped   {escape(skipped.what)}: {escape(skipped.why)}"
    for note in report.notes:
        yield f"note      {escape(note)}"


def runtime_line(entry: RuntimeEntry) -> str:
    """One runtime that was tried."""
    if entry.failure:
        return f"runtime   {escape(entry.name)}: {escape(entry.failure)}"
    bounds = f", {entry.ratio:.2f} of onnxruntime's time ({entry.low:.2f} to {entry.high:.2f})" if entry.ratio != 1.0 else ""
    return f"runtime   {escape(entry.name)}: {entry.ms:.3g} ms{bounds}{'; it ships' if entry.chosen else ''}"


def describe_compression(entry: CompressionEntry) -> str:
    """How much of a model was compressed, to what."""
    forms = Counter(place.form for place in entry.places if place.form)
    counts = ", ".join(f"{form} x{count}" for form, count in forms.most_common())
    return (
        f"{entry.compressed} of {entry.sites} sites ({counts}): {entry.weight_share:.1%} of the weights, {entry.flops_share:.1%} of the arithmetic; "
        f"{entry.bits:.2f} bits a weight there, {entry.size:.2f}x the size in all{_wider(entry)}"
    )


def describe_reduction(entry: ReductionEntry) -> str:
    """What is less than before: parameters, those of them that are not zero, arithmetic, bytes of weights in the file."""
    parts = []
    if entry.parameters_after != entry.parameters_before:
        parts.append(f"{entry.parameters_before:,} -> {entry.parameters_after:,} parameters ({_fall(entry.parameters_before, entry.parameters_after)})")
    if entry.flops_after != entry.flops_before:
        parts.append(f"{entry.flops_before:.3g} -> {entry.flops_after:.3g} FLOPs ({_fall(entry.flops_before, entry.flops_after)})")
    if entry.zeros_after > entry.zeros_before:
        shares = [zeros / max(whole, 1) for zeros, whole in ((entry.zeros_before, entry.parameters_before), (entry.zeros_after, entry.parameters_after))]
        parts.append(f"{shares[0]:.1%} -> {shares[1]:.1%} of the parameters are zero")
    if entry.bytes_after:
        numbers = " -> ".join(f"{count / MEBIBYTE:.3g}" for count in (entry.bytes_before, entry.bytes_after))
        parts.append(f"{numbers} MiB of weights in the file ({_fall(entry.bytes_before, entry.bytes_after)})")
    return ", ".join(parts) or "nothing"


def _fall(before: int, after: int) -> str:
    return f"{(after / before - 1) if before else 0.0:+.1%}"


def _wider(entry: CompressionEntry) -> str:
    """Codes that files have no type for."""
    odd = {3: 4, 5: 8, 6: 8, 7: 8}
    found = sorted({bits for bits in odd for place in entry.places if place.form == f"int{bits}"})
    return "".join(f"; codes of {bits} bits are stored in {odd[bits]}" for bits in found)


def describe_divergence(entry: DivergenceEntry) -> str:
    """How far an output moved."""
    parts = [f"cosine {entry.cosine:.5f} (worst {entry.worst_cosine:.5f})", f"relative error {entry.relative_error:.3g} ({entry.snr_db:.1f} dB)"]
    if entry.agreement is not None:
        parts.append(f"the same top score on {entry.agreement:.1%}" if entry.kl is not None else f"{entry.agreement:.1%} equal")
    if entry.kl is not None:
        parts.append(f"KL {entry.kl:.3g}")
    return f"{', '.join(parts)}; {entry.samples} sample{'' if entry.samples == 1 else 's'}"


def left_alone(places: Sequence[SiteEntry]) -> list[tuple[str, list[SiteEntry]]]:
    """Places that were not compressed, by why; what matters most (in weights) first."""
    reasons: dict[str, list[SiteEntry]] = {}
    for place in places:
        if not place.form:
            reasons.setdefault(place.why, []).append(place)
    return sorted(reasons.items(), key=lambda item: -sum(place.parameters for place in item[1]))


def compression_lines(entry: CompressionEntry) -> Iterator[str]:
    """What was compressed, and what was not and why."""
    yield f"compress  {describe_compression(entry)}"
    if entry.calibration:
        yield f"data      {escape(entry.calibration)}"
    reasons = left_alone(entry.places)
    for why, places in reasons[:SHOWN_SITES]:
        rest = f" and {len(places) - 3} more" if len(places) > 3 else ""
        yield f"left      {escape(', '.join(place.name for place in places[:3]))}{rest}: {escape(why)}"
    if len(reasons) > SHOWN_SITES:
        yield f"left      others for {len(reasons) - SHOWN_SITES} more reasons; --json lists them"


def kernel_lines(entries: Sequence[KernelEntry]) -> Iterator[str]:
    """One line for each choice between kernels that was made by timing."""
    for entry in entries[:SHOWN_KERNELS]:
        place = f" at {escape(', '.join(entry.shapes))}" if entry.shapes else ""
        yield f"kernel    {escape(entry.rule)}{place}: {entry.before_ms:.3g} ms -> {entry.after_ms:.3g} ms, {'used' if entry.chosen else 'not used'}"
    if len(entries) > SHOWN_KERNELS:
        yield f"kernel    and {len(entries) - SHOWN_KERNELS} more; --json lists them"


def undone_lines(entries: Sequence[RollbackEntry]) -> Iterator[str]:
    """One line for each rewrite that was undone, with where to see it again."""
    for entry in entries[:SHOWN_ROLLBACKS]:
        place = f" at '{escape(entry.where)}'" if entry.where else ""
        replay = f" Replay: graphwright replay {escape(entry.replay)}" if entry.replay else ""
        yield f"[yellow]undone[/]    {escape(entry.rule)}{place}: {escape(entry.reason)}{replay}"
    if len(entries) > SHOWN_ROLLBACKS:
        yield f"[yellow]undone[/]    and {len(entries) - SHOWN_ROLLBACKS} more; --json lists them"
