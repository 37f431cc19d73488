"""The report is data with a schema, and reads well in a terminal, on a page and in a pipe."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path

import jsonschema
import pytest
from rich.console import Console

from graphwright.compiler.core.records import Difference, PassRecord, RolledBack
from graphwright.compiler.report import (
    AccuracyEntry,
    CacheEntry,
    CompressionEntry,
    DivergenceEntry,
    LatencyEntry,
    ModelEntry,
    PortEntry,
    Report,
    SiteEntry,
    SkippedEntry,
    TrialEntry,
    VerificationEntry,
    difference_entry,
    pass_entries,
    schema,
)
from graphwright.compiler.report_html import render
from graphwright.compiler.report_table import describe_compression, describe_error, print_report

SCHEMA = Path(__file__).parents[2] / "docs" / "report.schema.json"
WORST = Difference("y<b>", 1e-7, 2e-6, 1e-5, (0, 3), 1.0, 1.0000001, 2)
BROKEN = Difference("y", math.nan, math.inf, 1e-5, (1,), 1.0, math.nan, 0, True)
RECORDS = [
    PassRecord("fold{only=a}", "exact", 3, {"fold-a": 3}, 0.1, 0.2, None, (), 10, 7),
    PassRecord("fuse", "reassociated", 1, {"fuse-gelu": 1}, 0.1, 0.2, WORST, (RolledBack("fuse-x", "out[0]", "the output is NaN", BROKEN, "replay/1"),), 7, 5),
]
PLACES = [
    SiteEntry(name="[b]fc[/b]", kind="MatMul", form="int8", method="gptq", bits=8.25, parameters=900, flops=1800, sensitivity=1e-4),
    SiteEntry(name="<head>", kind="Gemm", why="put back, for the accuracy budget", parameters=100, flops=200, sensitivity=math.inf),
    *(SiteEntry(name=f"norm{place}", kind="Conv", why="its weight has only 1 column", parameters=1) for place in range(5)),
]
COMPRESSION = CompressionEntry(
    sites=7,
    compressed=1,
    weight_share=0.9,
    flops_share=0.75,
    bits=8.25,
    size=0.28,
    calibration="calibrated on 100 samples (a folder)",
    put_back=["<head>"],
    places=PLACES,
)
LATENCY = LatencyEntry(before_ms=4.0, after_ms=2.0, ratio=0.5, low=0.45, high=0.55, rounds=40)


def a_report() -> Report:
    return Report(
        graphwright="0.1.0",
        versions={"onnx": "1"},
        model="[red]model<script>.onnx",
        kind="path",
        target="ort-cpu",
        level="2",
        precision="fp32",
        recipe="fold,fuse",
        shipped="optimized",
        verdict="2.00x faster",
        inputs=[PortEntry(name="x", dtype="tensor(float)", shape=["batch", 3, None])],
        before=ModelEntry(nodes=10, weight_bytes=2**20, opset=17, operators={"Add": 10}),
        after=ModelEntry(nodes=5, weight_bytes=2**20, opset=21, operators={"Add": 5}),
        passes=pass_entries(RECORDS),
        verification=VerificationEntry(samples=7, given=1, reference="the input", worst=difference_entry(WORST)),
        latency=LATENCY,
        trials=[TrialEntry(candidate="level 2", latency=LATENCY, shipped=True)],
        accuracy=AccuracyEntry(metric="top1", before=0.8, after=0.79, drop=0.01, allowed=0.02),
        compression=COMPRESSION,
        divergence=[DivergenceEntry(output="<logits>", samples=8, cosine=0.99, worst_cosine=0.9, relative_error=0.1, snr_db=20.0, kl=0.01, agreement=0.95)],
        options={"intra_op_num_threads": 2},
        skipped=[SkippedEntry(what="model.ort", why="not for this target")],
        notes=["a note"],
        cache=CacheEntry(hit=True, key="ab" * 32),
        seconds={"import": 0.1},
    )


def test_the_published_schema_is_the_current_one() -> None:
    assert SCHEMA.read_text() == schema(), "run: python -m graphwright.compiler.report > docs/report.schema.json"


def test_a_report_with_nan_in_it_is_plain_json_that_fits_the_schema_and_reads_back() -> None:
    report = a_report()
    document = json.loads(report.to_json(), parse_constant=lambda name: (_ for _ in ()).throw(AssertionError(name)))
    jsonschema.validate(document, json.loads(SCHEMA.read_text()))
    assert document["passes"][1]["rolled_back"][0]["difference"]["max_abs"] == "NaN"
    again = Report.model_validate_json(report.to_json())
    assert again.to_json() == report.to_json()
    assert math.isinf(again.rolled_back[0].difference.max_rel)  # type: ignore[union-attr]


def test_the_terminal_shows_every_pass_the_gain_and_what_was_undone() -> None:
    stream = io.StringIO()
    print_report(a_report(), Console(file=stream, width=160, color_system=None))
    text = stream.getvalue()
    for expected in ("[red]model<script>.onnx", "fold-a x3", "fuse-gelu", "10 -> 7", "2.00x (95 % confidence 1.82x to 2.22x", "fuse-x at 'out[0]'",
                     "the output is NaN", "graphwright replay replay/1", "0.8 -> 0.79", "a note", "model.ort"):  # fmt: skip
        assert expected in text, expected
    assert "\x1b" not in text


def test_the_page_is_escaped_and_needs_nothing_else() -> None:
    page = render(a_report())
    assert "<script" not in page and "&lt;script&gt;" in page
    assert "http" not in page
    for expected in ("fuse-gelu", "the output is NaN", "2.00x", "top1", "intra_op_num_threads=2"):
        assert expected in page, expected


def test_what_was_compressed_and_what_was_not_and_why_can_be_read() -> None:
    stream = io.StringIO()
    print_report(a_report(), Console(file=stream, width=160, color_system=None))
    text = stream.getvalue()
    for expected in (
        "compress  1 of 7 sites (int8 x1): 90.0% of the weights, 75.0% of the arithmetic; 8.25 bits a weight there, 0.28x the size in all",
        "data      calibrated on 100 samples (a folder)",
        "left      <head>: put back, for the accuracy budget",
        "left      norm0, norm1, norm2 and 2 more: its weight has only 1 column",
        "diverges  <logits>: cosine 0.99000 (worst 0.90000), relative error 0.1 (20.0 dB), the same top score on 95.0%, KL 0.01; 8 samples",
    ):
        assert expected in text, expected
    page = render(a_report())
    for expected in ("&lt;head&gt;", "int8 (gptq)", "inf noise", "&lt;logits&gt;", "put back", "[b]fc[/b]"):
        assert expected in page, expected


@pytest.mark.parametrize(("form", "told"), [("int3", "codes of 3 bits are stored in 4"), ("int6", "codes of 6 bits are stored in 8"), ("int4", None)])
def test_the_report_says_where_codes_take_more_than_their_bits(form: str, told: str | None) -> None:
    entry = COMPRESSION.model_copy(update={"places": [SiteEntry(name="a", kind="MatMul", form=form, bits=4.5, parameters=64)]})
    assert (told in describe_compression(entry)) if told else "stored in" not in describe_compression(entry)


def test_what_was_judged_by_noise_says_so_and_names_no_bound_that_did_not_count() -> None:
    held = Difference("y", 0.013, 0.2, 0.0044, (0,), 1.0, 1.013, reason="the noise in the answers was judged instead: 0.0029 of 0.0061 allowed")
    worst = difference_entry(held)
    assert describe_error(worst, "") == "0.013 (the noise in the answers was judged instead: 0.0029 of 0.0061 allowed)"
    assert describe_error(difference_entry(WORST), "") == "1e-07 of 1e-05 allowed"
