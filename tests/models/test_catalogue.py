"""The catalogue: what is in it, what is said when something is missing, and that every model is fed what it takes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from graphwright.compiler.core.errors import InputError
from graphwright.models.catalogue import Entry, Metric, catalogue, find
from graphwright.models.session import Plain
from graphwright.models.shared import ABSENT, shared_folder

KEPT = {
    "mobilenetv2", "shufflenetv2", "squeezenet_fp16", "mobilenetv1_0.5_160", "mobilenetv1_0.5_160_qdq", "mobilenetv1_0.25_224_trained", "darknet_tiny",
    "resnet8_cifar10", "mnist_cnn", "ultraface_rfb320", "super_resolution", "style_candy", "deeplabv3_qdq", "movenet_qdq", "silero_vad", "dtln_1", "dtln_2",
    "kws_dscnn", "magika_v3_3", "g2p_encoder", "g2p_decoder_step", "charrnn_bronte", "llama_260k", "wikillama_3m",
}  # fmt: skip
LARGE = {"style_candy": 2, "deeplabv3_qdq": 3, "dtln_1": 2, "dtln_2": 2}
"""Models whose every item takes long, and how many items a quick look takes."""
OUR_OWN = {"minilm_l6", "digits_cnn"}


def test_every_model_kept_beside_the_checkout_has_an_entry(shared: Path) -> None:
    files = {path.stem for path in (shared / "models").glob("*.onnx")} | {path.name for path in (shared / "models").iterdir() if path.is_dir()}
    assert files <= {entry.name for entry in catalogue()}


def test_the_catalogue_names_each_model_once() -> None:
    names = [entry.name for entry in catalogue()]
    assert sorted(names) == sorted(KEPT | OUR_OWN)


def test_a_model_that_is_not_there_says_what_it_needs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GRAPHWRIGHT_SHARED", str(tmp_path))
    assert shared_folder() is None
    assert {entry.unavailable() for entry in catalogue() if entry.name in KEPT} == {ABSENT}
    with pytest.raises(InputError, match="mobilenetv2.onnx.*beside the checkout"):
        find("mobilenetv2").file()


def test_one_missing_file_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    monkeypatch.setenv("GRAPHWRIGHT_SHARED", str(tmp_path))
    assert "models/dtln_2.onnx" in str(find("dtln_2").unavailable())


def test_a_missing_package_is_named() -> None:
    entry = Entry("none", "", "", lambda count, split: iter(()), Metric("none", lambda runner, limit: 0.0), packages=("no_such_package",))
    assert entry.unavailable() == "needs the package no_such_package"


def test_our_own_models_need_nothing_from_beside_the_checkout(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GRAPHWRIGHT_SHARED", str(tmp_path))
    for name in sorted(OUR_OWN):
        assert find(name).unavailable() is None
        assert len(list(find(name).feeds(3, "calibration"))) == 3


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(InputError, match="no 'resnet9'.*resnet8_cifar10"):
        find("resnet9")


def test_a_drop_is_positive_when_things_got_worse() -> None:
    better_high = Metric("accuracy", lambda runner, limit: 0.0)
    better_low = Metric("loss", lambda runner, limit: 0.0, higher_is_better=False)
    assert better_high.drop(0.9, 0.7) == pytest.approx(0.2)
    assert better_low.drop(1.0, 1.5) == pytest.approx(0.5)


@pytest.mark.shared
@pytest.mark.parametrize("name", sorted(KEPT - {"wikillama_3m"}))
def test_a_kept_model_takes_its_feeds_and_does_its_job(name: str) -> None:
    entry = find(name)
    runner = Plain(entry.file())
    for split in ("calibration", "report"):
        feeds = list(entry.feeds(3, split))
        assert len(feeds) == 3
        for feed in feeds:
            assert all(np.isfinite(np.asarray(output, np.float64)).all() for output in runner.run(feed).values())
    figure = entry.metric.measure(runner, LARGE.get(name, 20))
    expected = entry.metric.expected
    assert expected is not None
    worst = expected * 0.5 if entry.metric.higher_is_better else expected * 1.5
    assert entry.metric.drop(worst, figure) <= 0, f"{entry.metric.name} is {figure}, but {expected} on all of its data"


@pytest.mark.shared
@pytest.mark.parametrize("name", ["mobilenetv2", "resnet8_cifar10", "mnist_cnn", "g2p_encoder", "llama_260k"])
def test_calibration_inputs_are_no_report_inputs(name: str) -> None:
    entry = find(name)
    parts = [{b"".join(array.tobytes() for array in feed.values()) for feed in entry.feeds(20, split)} for split in ("calibration", "report")]
    assert not parts[0] & parts[1]


@pytest.mark.slow
@pytest.mark.shared
@pytest.mark.parametrize("entry", catalogue(), ids=lambda entry: entry.name)
def test_the_figure_of_the_model_as_obtained(entry: Entry, tmp_path: Path) -> None:
    """Within one part in a hundred: processors round differently."""
    figure = entry.metric.measure(Plain(entry.file(tmp_path)), None)
    assert figure == pytest.approx(entry.metric.expected, rel=0.01)
