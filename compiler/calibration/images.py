"""A folder of images as samples."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from ..cache import hash_parts
from ..core.backend import Sample
from ..core.errors import BackendMissing, InputError, UsageError
from .fit import Fit
from .npz_files import hash_file
from .preprocess import Preprocess

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["SUFFIXES", "ImageFiles", "open_images"]

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
CHANNELS = {"rgb": 3, "bgr": 3, "gray": 1}
EXAMPLE = "--preprocess size=256,crop=224,mean=0.485+0.456+0.406,std=0.229+0.224+0.225"
IMAGE_RANK = 4


@dataclass(frozen=True)
class Form:
    """What an input takes: ``layout``, ``color``, sides (None where they are open), and its dtype."""

    name: str
    layout: str
    color: str
    sides: tuple[int, int] | None
    dtype: np.dtype


@dataclass(frozen=True)
class ImageFiles:
    """One sample for each image, in a batch of its own, called by its path below ``root``."""

    files: Sequence[Path]
    fit: Fit
    root: Path
    spec: Preprocess
    form: Form

    def items(self) -> Iterator[tuple[str, Callable[[], Sample]]]:
        """As `data.Feed.items`."""
        for path in self.files:
            yield path.relative_to(self.root).as_posix(), functools.partial(self._read, path)

    def digest(self) -> str:
        """As `data.Feed.digest`."""
        return hash_parts([self.spec.model_dump_json(), *(hash_file(path) for path in self.files)])

    def _read(self, path: Path) -> Sample:
        from PIL import Image, UnidentifiedImageError

        try:
            with Image.open(path) as image:
                pixels = np.asarray(_sized(image.convert("L" if self.form.color == "gray" else "RGB"), self.spec, self.form))
        except (OSError, UnidentifiedImageError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise InputError(f"it cannot be read as an image: {str(error).replace(str(path), path.name)}") from None
        return self.fit.checked({self.form.name: _normal(pixels, self.spec, self.form)})


def open_images(files: Sequence[Path], model: ir.Model, fit: Fit, spec: Preprocess | None, root: Path) -> ImageFiles:
    """Raises UsageError when there is no specification, or it does not fit the model; BackendMissing without pillow."""
    try:
        import PIL  # noqa: F401
    except ImportError:
        raise BackendMissing("images need pillow: pip install pillow") from None
    if spec is None:
        raise UsageError(f"how images become inputs has to be said, for figures of another normalisation are worth nothing: {EXAMPLE}")
    return ImageFiles(files, fit, root, spec, _form(model, spec))


def _form(model: ir.Model, spec: Preprocess) -> Form:
    """What the image input takes, where the model says so, and what the specification adds."""
    port = _image_input(model, spec)
    assert port.shape is not None
    dims = [dim if isinstance(dim, int) else None for dim in port.shape]
    layout = spec.layout or _layout(dims)
    if layout is None:
        raise UsageError(f"whether the input '{port.name}' {port.shape} takes channels first or last has to be said: --preprocess layout=nchw (or nhwc)")
    first = layout == "nchw"
    channels, sides = dims[1 if first else 3], dims[2:] if first else dims[1:3]
    color = spec.color or ("gray" if channels == 1 else "rgb")
    asked = _pair(spec.crop) or (_pair(spec.size) if spec.size is not None and len(spec.size) == 2 else None)
    made = [1, CHANNELS[color], *(asked or sides)] if first else [1, *(asked or sides), CHANNELS[color]]
    if any(isinstance(dim, int) and size is not None and dim != size for dim, size in zip(dims, made, strict=True)):
        shown = ", ".join("?" if size is None else str(size) for size in made)
        raise UsageError(f"the preprocessing makes [{shown}], but the input '{port.name}' takes {port.shape}: change crop, size, layout or color")
    for name, numbers in (("mean", spec.mean), ("std", spec.std)):
        if len(numbers) not in (1, CHANNELS[color]):
            raise UsageError(f"the preprocessing has {len(numbers)} numbers in {name}, but {color} has {CHANNELS[color]} channels")
    if 0.0 in spec.std:
        raise UsageError("the preprocessing divides by std, so it cannot be 0")
    dtype = np.dtype(port.dtype.numpy()) if port.dtype is not None else np.dtype(np.float32)
    if dtype.kind in "iu" and (set(spec.mean) != {0.0} or set(spec.std) != {1.0}):
        raise UsageError(f"the input '{port.name}' takes {dtype}, so its pixels stay as they are: leave out mean and std")
    settled = asked or ((sides[0], sides[1]) if sides[0] is not None and sides[1] is not None else None)
    return Form(port.name or "", layout, color, settled, dtype)


def _image_input(model: ir.Model, spec: Preprocess) -> ir.Value:
    ports = [value for value in model.graph.inputs if not value.is_initializer()]
    if spec.input is not None:
        found = [value for value in ports if value.name == spec.input]
        if not found:
            raise UsageError(f"the model has no input '{spec.input}'; its inputs are: {', '.join(value.name or '' for value in ports)}")
    else:
        found = ports
    if len(found) != 1 or len(ports) != 1 or found[0].shape is None or len(found[0].shape) != IMAGE_RANK:
        shown = ", ".join(f"'{value.name}' {value.shape}" for value in ports)
        raise UsageError(f"a folder of images feeds a model with one input of {IMAGE_RANK} dimensions, not {shown}: give .npz files instead")
    return found[0]


def _layout(dims: Sequence[int | None]) -> str | None:
    first, last = dims[1] in (1, 3), dims[3] in (1, 3)
    return None if first == last else "nchw" if first else "nhwc"


def _pair(sides: tuple[int, ...] | None) -> tuple[int, int] | None:
    return None if sides is None else (sides[0], sides[-1])


def _sized(image: Image, spec: Preprocess, form: Form) -> Image:
    """Scaled and cropped; an image is scaled to what the model takes when nothing else is said."""
    size = spec.size
    if size is None and spec.crop is None and form.sides is not None:
        size = form.sides
    if size is not None:
        height, width = (size[0], size[1]) if len(size) == 2 else _shorter(image, size[0])
        image = image.resize((width, height), {"nearest": 0, "bilinear": 2, "bicubic": 3}[spec.filter])
    if form.sides is None or (image.height, image.width) == form.sides:
        return image
    height, width = form.sides
    if image.height < height or image.width < width:
        raise ValueError(f"it is {image.height} x {image.width}, smaller than the {height} x {width} that are kept: say size= too")
    left, top = round((image.width - width) / 2), round((image.height - height) / 2)
    return image.crop((left, top, left + width, top + height))


def _shorter(image: Image, side: int) -> tuple[int, int]:
    """Height and width with the shorter one ``side`` long, as torchvision's Resize has them."""
    if image.height <= image.width:
        return side, max(1, int(side * image.width / image.height))
    return max(1, int(side * image.height / image.width)), side


def _normal(pixels: np.ndarray, spec: Preprocess, form: Form) -> np.ndarray:
    """Pixels [H, W] or [H, W, C] as an input of one image."""
    array = pixels[..., None] if pixels.ndim == 2 else pixels
    if form.color == "bgr":
        array = array[..., ::-1]
    if form.dtype.kind not in "iu":
        scaled = array.astype(np.float32) / np.float32(spec.scale)
        array = ((scaled - np.array(spec.mean, np.float32)) / np.array(spec.std, np.float32)).astype(form.dtype)
    if form.layout == "nchw":
        array = array.transpose(2, 0, 1)
    return np.ascontiguousarray(array[None], form.dtype)
