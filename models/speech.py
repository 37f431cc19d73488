"""Speech-like sound made from nothing: a buzz shaped by the formants of vowels, hisses between them, pauses, and noise on top."""

from __future__ import annotations

import numpy as np

RATE = 16_000
VOWELS = ((730, 1090, 2440), (270, 2290, 3010), (300, 870, 2240), (530, 1840, 2480), (570, 840, 2410), (440, 1020, 2240))
"""First three formants in Hz of the vowels in: father, see, boot, bed, law, book (Peterson and Barney, 1952)."""
WIDTHS = (90, 110, 170)


def utterance(seed: int, seconds: float = 4.0) -> tuple[np.ndarray, np.ndarray]:
    """Clean sound float32 [samples] within -1 and 1 at 16 kHz, and for each sample whether somebody speaks: phrases of syllables, with pauses."""
    random = np.random.default_rng(seed)
    total = int(seconds * RATE)
    sound, spoken = np.zeros(total), np.zeros(total, bool)
    pitch = random.uniform(95, 210)
    start = int(random.uniform(0.3, 0.6) * RATE)
    while start < total - RATE:
        phrase = np.concatenate([_syllable(random, pitch * random.uniform(0.9, 1.15)) for _ in range(random.integers(4, 8))])[: total - start]
        sound[start : start + len(phrase)] += phrase
        spoken[start : start + len(phrase)] = True
        start += len(phrase) + int(random.uniform(0.5, 0.9) * RATE)
    return (0.5 * sound / np.abs(sound).max()).astype(np.float32), spoken


def noisy(clean: np.ndarray, seed: int, ratio_db: float = 5.0) -> np.ndarray:
    """The sound with white noise added at this signal-to-noise ratio."""
    noise = np.random.default_rng(seed).standard_normal(len(clean))
    level = np.sqrt(np.mean(clean.astype(np.float64) ** 2) / np.mean(noise**2) / 10 ** (ratio_db / 10))
    return (clean + level * noise).astype(np.float32)


def signal_to_noise(sound: np.ndarray, clean: np.ndarray) -> float:
    """In dB, of ``sound`` against the clean one, whatever the loudness of either (SI-SDR)."""
    sound, clean = sound.astype(np.float64), clean.astype(np.float64)
    wanted = clean * (sound @ clean) / (clean @ clean)
    return float(10 * np.log10((wanted @ wanted) / max(float((sound - wanted) @ (sound - wanted)), 1e-20)))


def mfcc(sound: np.ndarray) -> np.ndarray:
    """49 frames of 10 mel-frequency cepstral coefficients from one second: float32 [49, 10]; frames of 40 ms every 20 ms."""
    frames = np.stack([sound[step * 320 : step * 320 + 640] for step in range(49)]) * np.hanning(640)
    power = np.abs(np.fft.rfft(frames, 1024)) ** 2
    mel = np.log(power @ _mel_bank(40, 513).T + 1e-6)
    angles = np.pi / 40 * (np.arange(40) + 0.5)
    return (mel @ np.cos(np.outer(np.arange(10), angles)).T * np.sqrt(2 / 40)).astype(np.float32)


def _syllable(random: np.random.Generator, pitch: float) -> np.ndarray:
    """A short hiss or nothing, then a vowel gliding to another one."""
    hiss = np.diff(random.standard_normal(int(random.uniform(0.03, 0.08) * RATE))) * 0.02 * random.integers(0, 2)
    length = int(random.uniform(0.14, 0.26) * RATE)
    first, second = (np.array(VOWELS[index], float) for index in random.integers(0, len(VOWELS), 2))
    glide = np.linspace(pitch, pitch * random.uniform(0.85, 1.1), length)
    buzz = np.diff(np.floor(np.cumsum(glide / RATE)), prepend=0.0) + 0.002 * random.standard_normal(length)
    sound = _throat(buzz)
    for index, width in enumerate(WIDTHS):
        sound = _resonate(sound, np.linspace(first[index], second[index], length), width)
    envelope = np.minimum(1, np.minimum(np.arange(length), np.arange(length)[::-1]) / (0.03 * RATE))
    return np.concatenate([hiss, np.diff(sound, prepend=0.0) * envelope])


def _throat(buzz: np.ndarray) -> np.ndarray:
    """Vocal folds give less of the high: a one-pole low-pass."""
    level, out = 0.0, []
    for sample in buzz.tolist():
        level = sample + 0.97 * level
        out.append(level)
    return np.array(out)


def _resonate(sound: np.ndarray, frequency: np.ndarray, width: float) -> np.ndarray:
    """A formant of ``width`` Hz at a frequency that moves (Klatt's resonator: what is constant passes unchanged)."""
    radius = np.exp(-np.pi * width / RATE)
    feedback = 2 * radius * np.cos(2 * np.pi * frequency / RATE)
    gain = 1 - feedback + radius * radius
    out, before, earlier = [], 0.0, 0.0
    for driven, turn in zip((sound * gain).tolist(), feedback.tolist(), strict=True):
        before, earlier = driven + turn * before - radius * radius * earlier, before
        out.append(before)
    return np.array(out)


def _mel_bank(bands: int, bins: int) -> np.ndarray:
    top = 2595 * np.log10(1 + 4000 / 700)
    edges = 700 * (10 ** (np.linspace(0, top, bands + 2) / 2595) - 1)
    hertz = np.linspace(0, RATE / 2, bins)
    rising = (hertz - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - hertz) / (edges[2:] - edges[1:-1])[:, None]
    return np.maximum(0, np.minimum(rising, falling))
