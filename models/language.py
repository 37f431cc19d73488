"""Small language models with real weights."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from .catalogue import Entry, Metric, Sample
from .exporting import dynamo, quiet
from .ranks import log_likelihood
from .session import Runs, only
from .shared import Split, shared_file, spread
from .shared import text as wikitext

LLAMA, SAMPLES = "models/llama_260k.onnx", "models/llama_260k_samples.npy"
WIKILLAMA = "models/wikillama_3m"
CHARS, VOCABULARY = "models/charrnn_bronte.onnx", "models/charrnn_bronte.vocab.json"
SHAKESPEARE, WIKITEXT = "data/shakespeare/input.txt", "data/wikitext2"
WINDOW, WINDOWS = 128, 600


def entries() -> tuple[Entry, ...]:
    """All language models, those that spell and those that tell files apart too."""
    from . import magika, spelling

    return (
        Entry("llama_260k", "Llama-2-style decoder, 5 layers of 64, as torch exports it (dynamo)", "shared models", _llama_feeds,
              Metric("next-token loss", llama_loss, higher_is_better=False, expected=1.7502), path=LLAMA, needs=(SAMPLES,)),
        Entry("wikillama_3m", "Llama-style decoder, 6 layers of 192, exported here from its Hugging Face folder", "shared models", _wiki_feeds,
              Metric("perplexity on wikitext-2 test", perplexity, higher_is_better=False, expected=68.9), build=export_wikillama,
              needs=(WIKILLAMA, WIKITEXT), packages=("torch", "transformers", "tokenizers")),
        Entry("charrnn_bronte", "character model, two LSTM layers", "shared models", _char_feeds,
              Metric("bits per character on Shakespeare", bits_per_character, higher_is_better=False, expected=2.9972), path=CHARS,
              needs=(VOCABULARY, SHAKESPEARE)),
        *spelling.entries(),
        *magika.entries(),
    )  # fmt: skip


def llama_windows(split: Split) -> np.ndarray:
    """Token ids int64 [rows, 128] of its own text; every fourth row is for calibration."""
    rows = np.load(shared_file(SAMPLES)).astype(np.int64)
    chosen = (np.arange(len(rows)) % 4 == 0) == (split == "calibration")
    return rows[chosen]


def _llama_feeds(count: int, split: Split) -> Iterator[Sample]:
    """Batches of one or two, of different lengths."""
    rows = llama_windows(split)
    for index in range(count):
        yield {"ids": rows[[index % len(rows), (index + 1) % len(rows)]][: 1 + index % 2, : (128, 96, 37)[index % 3]]}


def llama_loss(runner: Runs, limit: int | None = None) -> float:
    """Mean negative log-likelihood of the next token, in nats."""
    rows = llama_windows("report")
    rows = rows[spread(len(rows), limit)]
    return -float(np.mean([log_likelihood(only(runner.run({"ids": row[None]}))[0, :-1], row[1:]) for row in rows]))


def export_wikillama(folder: Path) -> Path:
    """The ONNX file that torch's exporter writes: input_ids int64 [batch, length] -> logits."""
    import torch
    import transformers

    class Logits(torch.nn.Module):
        def __init__(self, decoder: torch.nn.Module) -> None:
            super().__init__()
            self.decoder = decoder

        def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
            return self.decoder(input_ids=input_ids, use_cache=False).logits

    with quiet():
        transformers.utils.logging.disable_progress_bar()
        module = Logits(transformers.AutoModelForCausalLM.from_pretrained(shared_file(WIKILLAMA))).eval()
    shapes = ({0: torch.export.Dim("batch"), 1: torch.export.Dim("length", max=512)},)
    return dynamo(module, (torch.ones(2, 16, dtype=torch.int64),), folder / "wikillama_3m.onnx", dynamic_shapes=shapes)


@functools.cache
def wiki_windows(split: Split) -> np.ndarray:
    """The first 600 windows of 128 tokens, int64 [600, 128]."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(shared_file(WIKILLAMA) / "tokenizer.json"))
    ids = tokenizer.encode(wikitext(split), add_special_tokens=False).ids
    return np.array(ids[: WINDOW * WINDOWS], np.int64).reshape(-1, WINDOW)


def _wiki_feeds(count: int, split: Split) -> Iterator[Sample]:
    windows = wiki_windows(split)
    for index in range(count):
        start = index % (len(windows) - 4)
        yield {"input_ids": windows[start : start + 1 + index % 4, : (128, 64, 50)[index % 3]]}


def perplexity(runner: Runs, limit: int | None = None) -> float:
    """exp of the mean negative log-likelihood per token; each window is scored from its second token."""
    windows = wiki_windows("report")[:limit]
    scores = [log_likelihood(only(runner.run({"input_ids": batch}))[:, :-1], batch[:, 1:]) for batch in np.array_split(windows, max(1, len(windows) // 8))]
    return float(np.exp(-np.concatenate(scores).mean()))


@functools.cache
def _characters() -> np.ndarray:
    """Shakespeare as character ids; a character that the model does not know reads as a blank."""
    vocabulary = json.loads(shared_file(VOCABULARY).read_text(encoding="utf-8"))
    letters = shared_file(SHAKESPEARE).read_text(encoding="utf-8")
    return np.array([vocabulary.get(letter, vocabulary[" "]) for letter in letters], np.int64)


def _char_feeds(count: int, split: Split) -> Iterator[Sample]:
    """Texts of different length from a zero state; the last quarter of the text is for the figure."""
    ids = _characters()
    ids = ids[: 3 * len(ids) // 4] if split == "calibration" else ids[3 * len(ids) // 4 :]
    for index in range(count):
        batch, length = 1 + index % 3, (64, 1, 200)[index % 3]
        starts = (np.arange(batch) + index) * 977 % (len(ids) - length)
        zero = np.zeros((2, batch, 128), np.float32)
        yield {"ids": np.stack([ids[start : start + length] for start in starts]), "h0": zero, "c0": zero}


def bits_per_character(runner: Runs, limit: int | None = None) -> float:
    """Mean number of bits a character costs, over 100 windows of 200 characters, the state carried from one to the next."""
    ids = _characters()
    ids = ids[3 * len(ids) // 4 :]
    states = {"h0": np.zeros((2, 1, 128), np.float32), "c0": np.zeros((2, 1, 128), np.float32)}
    costs = []
    for start in range(0, 200 * (limit or 100), 200):
        outputs = runner.run({"ids": ids[None, start : start + 200], **states})
        states = {"h0": np.asarray(outputs["h"]), "c0": np.asarray(outputs["c"])}
        costs.append(-log_likelihood(np.asarray(outputs["logits"])[0], ids[start + 1 : start + 201]).mean() / np.log(2))
    return float(np.mean(costs))
