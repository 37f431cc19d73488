"""A text file, one text a line, as samples of token ids."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from ..cache import hash_parts
from ..core.backend import Sample
from ..core.errors import BackendMissing, InputError, UsageError
from .fit import Fit
from .npz_files import hash_file
from .preprocess import Preprocess

__all__ = ["TextLines", "open_texts"]

IDS = ("input_ids", "ids", "tokens", "token_ids")
MASKS = ("attention_mask", "mask")
TYPES = ("token_type_ids", "segment_ids")
POSITIONS = ("position_ids",)
TOKENIZER = "tokenizer.json"


@dataclass(frozen=True)
class Roles:
    """Which input takes ids, the mask, the types and the positions; None where the model has none of a kind. ``fixed`` is a length it cannot do without."""

    ids: ir.Value
    mask: ir.Value | None
    types: ir.Value | None
    positions: ir.Value | None
    fixed: int | None


@dataclass(frozen=True)
class TextLines:
    """One sample for each line that is not empty, or, joined, for each window of tokens."""

    path: Path
    tokenizer_path: Path
    tokenizer: Any
    fit: Fit
    spec: Preprocess
    roles: Roles
    padding: int

    def items(self) -> Iterator[tuple[str, Callable[[], Sample]]]:
        """As `data.Feed.items`."""
        length = self.roles.fixed or self.spec.length
        if self.spec.join:
            for place, window in enumerate(self._windows(length)):
                yield f"window {place}", functools.partial(self._sample, window)
            return
        for place, line in self._lines():
            yield f"line {place}", functools.partial(self._of_line, line, length)

    def digest(self) -> str:
        """As `data.Feed.digest`."""
        return hash_parts([self.spec.model_dump_json(), hash_file(self.tokenizer_path), hash_file(self.path)])

    def _lines(self) -> Iterator[tuple[int, str]]:
        try:
            with self.path.open(encoding="utf-8") as file:
                for place, line in enumerate(file, start=1):
                    if line.strip():
                        yield place, line.strip()
        except UnicodeDecodeError as error:
            raise InputError(f"'{self.path}' is no text in UTF-8: {error}") from None

    def _windows(self, length: int) -> Iterator[list[int]]:
        """Tokens of the lines one after the other, in windows; what is left at the end is dropped unless there is nothing else."""
        held: list[int] = []
        made = 0
        for _, line in self._lines():
            held += self.tokenizer.encode(line, add_special_tokens=False).ids
            while len(held) >= length:
                yield held[:length]
                held, made = held[length:], made + 1
        if held and not made:
            yield held

    def _of_line(self, line: str, length: int) -> Sample:
        return self._sample(self.tokenizer.encode(line).ids[:length])

    def _sample(self, ids: list[int]) -> Sample:
        if not ids:
            raise InputError("the tokenizer makes no token of it")
        roles = self.roles
        blank = roles.fixed - len(ids) if roles.fixed is not None else 0
        if blank and roles.mask is None:
            raise InputError(f"it has {len(ids)} tokens, but the model takes {roles.fixed} and has no mask for the rest: say join=true in --preprocess")
        count = len(ids)
        values = {
            roles.ids: [*ids, *[self.padding] * blank],
            roles.mask: [1] * count + [0] * blank,
            roles.types: [0] * (count + blank),
            roles.positions: list(range(count + blank)),
        }
        return self.fit.checked({port.name or "": np.array([row], port.dtype.numpy()) for port, row in values.items() if port is not None and port.dtype})


def open_texts(path: Path, model: ir.Model, fit: Fit, spec: Preprocess | None) -> TextLines:
    """Raises UsageError when there is no tokenizer or the model takes no token ids, BackendMissing without the package, InputError for a broken file."""
    spec = spec or Preprocess.model_validate({})
    place = Path(spec.tokenizer) if spec.tokenizer is not None else path.parent / TOKENIZER
    place = place / TOKENIZER if place.is_dir() else place
    if not place.is_file():
        said = f"there is no tokenizer '{place}'" if spec.tokenizer is not None else f"the texts in '{path}' need a tokenizer"
        raise UsageError(f"{said}: say where a tokenizer.json is, --preprocess tokenizer=FILE")
    try:
        from tokenizers import Tokenizer
    except ImportError:
        raise BackendMissing("texts need the package tokenizers: pip install 'graphwright[hf]'") from None
    try:
        tokenizer = Tokenizer.from_file(str(place))
    except Exception as error:  # tokenizers raises plain Exception
        raise InputError(f"'{place}' cannot be read as a tokenizer: {error}") from None
    padding = _padding(tokenizer)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return TextLines(path, place, tokenizer, fit, spec, _roles(model, path), padding)


def _padding(tokenizer: Any) -> int:
    """The token that stands where there is no text; a mask hides it."""
    if tokenizer.padding:
        return int(tokenizer.padding["pad_id"])
    known = (tokenizer.token_to_id(name) for name in ("[PAD]", "<pad>"))
    return next((int(token) for token in known if token is not None), 0)


def _roles(model: ir.Model, path: Path) -> Roles:
    ports = {value.name or "": value for value in model.graph.inputs if not value.is_initializer()}
    ids = _pick(ports, IDS)
    if ids is None and len(ports) == 1:
        ids = next(iter(ports.values()))
    if ids is None or ids.dtype is None or not ids.dtype.is_integer() or ids.shape is None or len(ids.shape) != 2:
        raise UsageError(f"'{path}' is text, but the model has no input of token ids [batch, length]; its inputs are: {', '.join(ports)}")
    mask, types, positions = _pick(ports, MASKS), _pick(ports, TYPES), _pick(ports, POSITIONS)
    other = next((name for name, port in ports.items() if port not in (ids, mask, types, positions)), None)
    if other is not None:
        raise UsageError(f"texts do not say what the input '{other}' takes: give .npz files instead of '{path}'")
    length = ids.shape[1]
    return Roles(ids, mask, types, positions, length if isinstance(length, int) else None)


def _pick(ports: dict[str, ir.Value], names: tuple[str, ...]) -> ir.Value | None:
    return next((ports[name] for name in names if name in ports), None)
