"""MiniLM as torch exports it computes what the torch model computes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from graphwright.models import minilm
from graphwright.models.session import Plain, only


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Plain:
    """The exported model under ONNX Runtime."""
    return Plain(minilm.export(tmp_path_factory.mktemp("minilm")))


def test_sentences_come_in_pairs() -> None:
    texts = minilm.sentences()
    assert len(texts) == len(set(texts)) == 40


def test_a_batch_is_padded_to_its_longest_text() -> None:
    feed = minilm.encode(["No", "A dog chases a red ball across the park."])
    assert feed["input_ids"].shape == feed["attention_mask"].shape == (2, 12)
    assert feed["attention_mask"].sum(axis=1).tolist() == [3, 12]
    assert not feed["input_ids"][0, 3:].any()


def test_a_long_text_is_cut() -> None:
    assert minilm.encode(["word " * 500])["input_ids"].shape == (1, minilm.LONGEST)


def test_the_export_computes_what_torch_computes(runner: Plain) -> None:
    assert minilm.torch_agreement(runner) > 0.999999


def test_an_embedding_does_not_depend_on_the_batch(runner: Plain) -> None:
    texts = minilm.sentences()[:6]
    alone = np.stack([only(runner.run(minilm.encode([text])))[0] for text in texts])
    np.testing.assert_allclose(minilm.embed(runner, texts), alone, atol=2e-6)


def test_alike_sentences_are_nearer_than_others(runner: Plain) -> None:
    vectors = minilm.embed(runner, minilm.sentences()[:8])
    likeness = vectors @ vectors.T
    np.testing.assert_allclose(np.diag(likeness), 1, atol=1e-5)
    assert all(likeness[index, index + 1] > likeness[index, (index + 4) % 8] for index in (0, 2, 4))


@pytest.mark.shared
def test_rank_correlation_with_people(runner: Plain) -> None:
    assert minilm.sts_spearman(runner, 150) > 0.75


def test_without_labelled_data_the_figure_is_agreement_with_torch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GRAPHWRIGHT_SHARED", str(tmp_path))
    (entry,) = minilm.entries()
    assert entry.metric.name == "cosine to the torch model"
