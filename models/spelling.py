"""Grapheme to phoneme: a GRU reads a word's letters, another one says its sounds one by one (the network of g2p_en)."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from .catalogue import Entry, Metric, Sample
from .session import Plain, Runs
from .shared import Split, shared_file

READER, SPEAKER = "models/g2p_encoder.onnx", "models/g2p_decoder_step.onnx"
WORDS = Path(__file__).parent / "data" / "pronunciations.txt"
LETTERS = ("<pad>", "<unk>", "</s>", *"abcdefghijklmnopqrstuvwxyz")
END_OF_WORD = 2
PHONEMES = (
    "<pad>", "<unk>", "<s>", "</s>", "AA0", "AA1", "AA2", "AE0", "AE1", "AE2", "AH0", "AH1", "AH2", "AO0", "AO1", "AO2", "AW0", "AW1", "AW2", "AY0", "AY1",
    "AY2", "B", "CH", "D", "DH", "EH0", "EH1", "EH2", "ER0", "ER1", "ER2", "EY0", "EY1", "EY2", "F", "G", "HH", "IH0", "IH1", "IH2", "IY0", "IY1", "IY2",
    "JH", "K", "L", "M", "N", "NG", "OW0", "OW1", "OW2", "OY0", "OY1", "OY2", "P", "R", "S", "SH", "T", "TH", "UH0", "UH1", "UH2", "UW", "UW0", "UW1", "UW2",
    "V", "W", "Y", "Z", "ZH",
)  # fmt: skip
START, END, LONGEST = 2, 3, 20


def entries() -> tuple[Entry, ...]:
    """The reader and the speaker."""
    words = "exact words of 30"
    return (
        Entry("g2p_encoder", "GRU over the letters of a word", "shared models", _reader_feeds,
              Metric(words, functools.partial(_exact, True), expected=0.9), path=READER, needs=(SPEAKER,)),
        Entry("g2p_decoder_step", "one step of the GRU that says the sounds", "shared models", _speaker_feeds,
              Metric(words, functools.partial(_exact, False), expected=0.9), path=SPEAKER, needs=(READER,)),
    )  # fmt: skip


@functools.cache
def pronunciations(split: Split) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Common English words and their sounds in ARPAbet; every other word is for calibration."""
    lines = [line.split() for line in WORDS.read_text(encoding="utf-8").splitlines()]
    chosen = lines[0 if split == "calibration" else 1 :: 2]
    return tuple((line[0], tuple(line[1:])) for line in chosen)


def pronounce(reader: Runs, speaker: Runs, word: str) -> tuple[str, ...]:
    """The sounds of a word of letters a to z, the likeliest at each step."""
    return tuple(PHONEMES[best] for _, best in _steps(reader, speaker, word) if best != END)


def _letters(word: str) -> Sample:
    return {"graphemes": np.array([[LETTERS.index(letter) for letter in word] + [END_OF_WORD]], np.int64)}


def _steps(reader: Runs, speaker: Runs, word: str) -> Iterator[tuple[Sample, int]]:
    state = np.asarray(reader.run(_letters(word))["h"])
    said = START
    for _ in range(LONGEST):
        feed = {"prev": np.array([[said]], np.int64), "h_in": state}
        outputs = speaker.run(feed)
        state, said = np.asarray(outputs["h_out"]), int(np.asarray(outputs["logits"]).argmax())
        yield feed, said
        if said == END:
            return


def _exact(reads: bool, runner: Runs, limit: int | None = None) -> float:
    """The part of the words whose every sound is right; the other half of the pair is the file as obtained."""
    reader, speaker = (runner, Plain(shared_file(SPEAKER))) if reads else (Plain(shared_file(READER)), runner)
    words = pronunciations("report")[:limit]
    return float(np.mean([pronounce(reader, speaker, word) == sounds for word, sounds in words]))


def _reader_feeds(count: int, split: Split) -> Iterator[Sample]:
    words = pronunciations(split)
    for index in range(count):
        yield _letters(words[index % len(words)][0])


def _speaker_feeds(count: int, split: Split) -> Iterator[Sample]:
    """Steps with the state that the models as obtained had reached."""
    reader, speaker = Plain(shared_file(READER)), Plain(shared_file(SPEAKER))
    steps = [feed for word, _ in pronunciations(split) for feed, _ in _steps(reader, speaker, word)]
    for index in range(count):
        yield steps[index % len(steps)]
