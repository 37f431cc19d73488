"""Models of sound with real weights, fed speech-like sound (see `speech`): voice activity, noise removal, keywords."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import numpy as np

from .catalogue import Entry, Metric, Sample
from .session import Plain, Runs, only
from .shared import Split, shared_file
from .speech import RATE, mfcc, noisy, signal_to_noise, utterance

CHUNK, CONTEXT = 512, 64
BLOCK, SHIFT = 512, 128
UTTERANCES = 12
CALIBRATION_SEED, REPORT_SEED = 1000, 0
VAD, FIRST, SECOND, KEYWORDS = (f"models/{name}.onnx" for name in ("silero_vad", "dtln_1", "dtln_2", "kws_dscnn"))


def entries() -> tuple[Entry, ...]:
    """All models of sound."""
    gain = "dB gained on noisy speech"
    return (
        Entry("silero_vad", "voice activity: If on the sample rate, LSTM, state in and out", "shared models", _vad_feeds,
              Metric("32 ms frames right, synthetic speech", vad_accuracy, expected=0.9287), path=VAD),
        Entry("dtln_1", "denoiser, first half: a mask over the spectrum, two LSTMs with explicit state", "shared models", functools.partial(_dtln_feeds, 0),
              Metric(gain, functools.partial(_gain, 0), expected=10.10), path=FIRST, needs=(SECOND,)),
        Entry("dtln_2", "denoiser, second half: works on a learned transform", "shared models", functools.partial(_dtln_feeds, 1),
              Metric(gain, functools.partial(_gain, 1), expected=10.10), path=SECOND, needs=(FIRST,)),
        Entry("kws_dscnn", "keyword spotting: depthwise-separable CNN, NHWC, 49 x 10 MFCC", "shared models", _keyword_feeds,
              Metric("same word as the file as obtained", same_word, expected=1.0), path=KEYWORDS),
    )  # fmt: skip


def _seeds(split: Split, count: int) -> range:
    first = CALIBRATION_SEED if split == "calibration" else REPORT_SEED
    return range(first, first + count)


def detect(runner: Runs, sound: np.ndarray) -> np.ndarray:
    """Probability of speech in each 32 ms of sound at 16 kHz; each chunk is heard after the last 4 ms of the one before."""
    return np.array([probability for _, probability in _vad_steps(runner, sound)])


def _vad_steps(runner: Runs, sound: np.ndarray) -> Iterator[tuple[Sample, float]]:
    """For each chunk: what goes in, and the probability that comes out."""
    state = np.zeros((2, 1, 128), np.float32)
    padded = np.concatenate([np.zeros(CONTEXT, np.float32), sound])
    for start in range(0, len(sound) - CHUNK + 1, CHUNK):
        feed = {"input": padded[None, start : start + CONTEXT + CHUNK], "state": state, "sr": np.array(RATE, np.int64)}
        outputs = runner.run(feed)
        state = np.asarray(outputs["stateN"])
        yield feed, float(np.asarray(outputs["output"]).ravel()[0])


def vad_accuracy(runner: Runs, limit: int | None = None) -> float:
    """The part of the 32 ms frames in which speech is told from a pause (probability above one half)."""
    right = []
    for seed in _seeds("report", limit or UTTERANCES):
        clean, spoken = utterance(seed)
        heard = detect(runner, clean) > 0.5
        truth = spoken[: len(heard) * CHUNK].reshape(-1, CHUNK).mean(axis=1) > 0.5
        right.extend(heard == truth)
    return float(np.mean(right))


def _vad_feeds(count: int, split: Split) -> Iterator[Sample]:
    """Chunks as they come, with the state that the model as obtained had reached."""
    original = Plain(shared_file(VAD))
    steps = (feed for seed in _seeds(split, count) for feed, _ in _vad_steps(original, noisy(utterance(seed)[0], seed, 20)))
    yield from _every(steps, 5, count)


def _every(steps: Iterator[Sample], stride: int, count: int) -> Iterator[Sample]:
    for index, feed in enumerate(steps):
        if index >= stride * count:
            return
        if index % stride == 0:
            yield feed


def denoise(first: Runs, second: Runs, sound: np.ndarray) -> np.ndarray:
    """DTLN over a whole sound: spectrum mask, then the time-domain half, overlapping blocks added up (Westhausen and Meyer, 2020)."""
    out = np.zeros(len(sound) + BLOCK, np.float32)
    for start, _, block in _dtln_steps(first, second, sound):
        out[start : start + BLOCK] += block
    return out[: len(sound)]


def _dtln_steps(first: Runs, second: Runs, sound: np.ndarray) -> Iterator[tuple[int, tuple[Sample, Sample], np.ndarray]]:
    """For each block: its start, what goes into either half, and the clean block."""
    states = [np.zeros((1, 2, 128, 2), np.float32) for _ in range(2)]
    for start in range(0, len(sound) - BLOCK + 1, SHIFT):
        spectrum = np.fft.rfft(sound[start : start + BLOCK])
        into_first = {"input_2": np.abs(spectrum).astype(np.float32)[None, None], "input_3": states[0]}
        mask, states[0] = (np.asarray(array) for array in first.run(into_first).values())
        masked = np.fft.irfft(spectrum * mask[0, 0]).astype(np.float32)
        into_second = {"input_4": masked[None, None], "input_5": states[1]}
        block, states[1] = (np.asarray(array) for array in second.run(into_second).values())
        yield start, (into_first, into_second), block[0, 0]


def _gain(half: int, runner: Runs, limit: int | None = None) -> float:
    """By how many dB the denoiser brings noisy speech nearer to the clean one; the other half is the file as obtained."""
    halves: list[Runs] = [Plain(shared_file(FIRST)), Plain(shared_file(SECOND))]
    halves[half] = runner
    gains = []
    for seed in _seeds("report", limit or UTTERANCES // 2):
        clean, _ = utterance(seed)
        sound = noisy(clean, seed)
        gains.append(signal_to_noise(denoise(halves[0], halves[1], sound), clean) - signal_to_noise(sound, clean))
    return float(np.mean(gains))


def _dtln_feeds(half: int, count: int, split: Split) -> Iterator[Sample]:
    first, second = Plain(shared_file(FIRST)), Plain(shared_file(SECOND))
    sounds = (noisy(utterance(seed)[0], seed) for seed in _seeds(split, count))
    steps = (step[half] for sound in sounds for _, step, _ in _dtln_steps(first, second, sound))
    yield from _every(steps, 16, count)


def _keyword_feeds(count: int, split: Split) -> Iterator[Sample]:
    """One second of speech-like sound as 49 x 10 coefficients."""
    for seed in _seeds(split, count):
        clean, spoken = utterance(seed, 2.5)
        start = min(int(np.argmax(spoken)), len(clean) - RATE)
        yield {"input_1": mfcc(noisy(clean, seed, 25)[start : start + RATE])[None, :, :, None]}


def same_word(runner: Runs, limit: int | None = None) -> float:
    """How often the runner hears the same of the 12 words as the model as obtained."""
    original = Plain(shared_file(KEYWORDS))
    words = [(only(runner.run(feed)).argmax(), only(original.run(feed)).argmax()) for feed in _keyword_feeds(limit or 200, "report")]
    return float(np.mean([heard == meant for heard, meant in words]))
