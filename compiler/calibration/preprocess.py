"""How images and texts become inputs of a model, as data.

As text: ``size=256,crop=224,layout=nchw,color=rgb,scale=255,mean=0.485+0.456+0.406,std=0.229+0.224+0.225``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from ..core.errors import UsageError

__all__ = ["Preprocess", "read_preprocess"]


def _numbers(value: object) -> object:
    """``0.5+0.5`` or ``256x128`` -> the numbers; one number stands for itself."""
    if isinstance(value, str):
        return [part for part in value.replace("x", "+").split("+") if part]
    return [value] if isinstance(value, (int, float)) else value


Sides = Annotated[tuple[int, ...], BeforeValidator(_numbers), Field(min_length=1, max_length=2)]
Channels = Annotated[tuple[float, ...], BeforeValidator(_numbers), Field(min_length=1, max_length=4)]


class Preprocess(BaseModel):
    """Images: ``size`` is what the shorter side is scaled to (H x W: both sides), ``crop`` the size of the middle part that is kept, pixels are divided by
    ``scale``, then ``mean`` is subtracted and the rest divided by ``std``, one number for each channel in the order of ``color`` or one for all.
    ``layout`` and ``crop`` are read off the model where it says.

    Texts: ``tokenizer`` is the path of a tokenizer.json, ``length`` the most tokens; ``join`` makes windows of that length of the whole text.

    ``samples`` is how many samples are used at most, ``input`` the input that an image is for, where there are several.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    size: Sides | None = None
    crop: Sides | None = None
    layout: Literal["nchw", "nhwc"] | None = None
    color: Literal["rgb", "bgr", "gray"] | None = None
    filter: Literal["nearest", "bilinear", "bicubic"] = "bilinear"
    scale: float = Field(255.0, gt=0)
    mean: Channels = (0.0,)
    std: Channels = (1.0,)
    tokenizer: str | None = None
    length: int = Field(128, gt=0)
    join: bool = False
    samples: int | None = Field(None, gt=0)
    input: str | None = None


def read_preprocess(spec: str | Mapping[str, object] | Preprocess | None) -> Preprocess | None:
    """A specification as text ``name=value,...``, as a mapping, or ready. Raises UsageError naming what it cannot read."""
    if spec is None or isinstance(spec, Preprocess):
        return spec
    if isinstance(spec, str):
        pairs = [part.partition("=") for part in spec.split(",") if part.strip()]
        bad = next((name for name, equals, _ in pairs if not equals), None)
        if bad is not None:
            raise UsageError(f"the preprocessing takes name=value,..., as in size=256,crop=224, not '{bad}'")
        spec = {name.strip(): value.strip() for name, _, value in pairs}
    try:
        return Preprocess.model_validate(dict(spec))
    except ValidationError as error:
        found = error.errors()[0]
        name = str(found["loc"][0]) if found["loc"] else ""
        if found["type"] == "extra_forbidden":
            raise UsageError(f"the preprocessing has no '{name}'; it has: {', '.join(Preprocess.model_fields)}") from None
        raise UsageError(f"the preprocessing '{name}={found['input']}' cannot be used: {found['msg'][:1].lower()}{found['msg'][1:]}") from None
