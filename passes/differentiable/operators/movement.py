"""Operators that move elements about, and those that speak of shapes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .call import Call, Operators, numbers

if TYPE_CHECKING:
    import torch

__all__ = ["operators"]


def operators() -> Operators:
    """By operator type."""
    import torch
    from torch.nn import functional

    def filled(call: Call, shape: torch.Tensor) -> torch.Tensor:
        attr = call.node.attributes.get("value")
        content = np.zeros(1, np.float32) if attr is None else attr.as_tensor().numpy()
        return torch.from_numpy(np.array(content)).to(shape.device).reshape(1).expand(numbers(shape)).clone()

    def counted(call: Call, start: torch.Tensor, limit: torch.Tensor, step: torch.Tensor) -> torch.Tensor:
        return torch.arange(start.item(), limit.item(), step.item(), dtype=start.dtype, device=start.device)

    def shape(call: Call, x: torch.Tensor) -> torch.Tensor:
        sizes = list(x.shape)[call.whole("start") : call.whole("end") if call.given("end") else None]
        return torch.tensor(sizes, dtype=torch.int64, device=x.device)

    def reshape(call: Call, x: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        sizes = numbers(target)
        if not call.whole("allowzero"):
            sizes = [x.shape[axis] if size == 0 else size for axis, size in enumerate(sizes)]
        return x.reshape(sizes)

    def flatten(call: Call, x: torch.Tensor) -> torch.Tensor:
        axis = call.whole("axis", 1)
        axis = axis + x.ndim if axis < 0 else axis
        return x.reshape(int(np.prod(x.shape[:axis])), int(np.prod(x.shape[axis:])))

    def squeeze(call: Call, x: torch.Tensor, axes: torch.Tensor | None = None) -> torch.Tensor:
        dims = call.wholes("axes") if call.given("axes") else numbers(axes)
        return x.squeeze(tuple(dims)) if dims else x.squeeze()

    def unsqueeze(call: Call, x: torch.Tensor, axes: torch.Tensor | None = None) -> torch.Tensor:
        dims = call.wholes("axes") if call.given("axes") else numbers(axes)
        for dim in sorted(dim % (x.ndim + len(dims)) for dim in dims):
            x = x.unsqueeze(dim)
        return x

    def expand(call: Call, x: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return x.expand(torch.broadcast_shapes(x.shape, tuple(numbers(target))))

    def split(call: Call, x: torch.Tensor, sizes: torch.Tensor | None = None) -> tuple[torch.Tensor, ...]:
        axis, parts = call.whole("axis"), len(call.node.outputs)
        given = call.wholes("split") if call.given("split") else numbers(sizes)
        return torch.split(x, given or -(-x.shape[axis] // parts), dim=axis)

    def cut(call: Call, x: torch.Tensor, *said: torch.Tensor | None) -> torch.Tensor:
        if call.version < 10:
            starts, ends, axes, steps = call.wholes("starts"), call.wholes("ends"), call.wholes("axes"), list[int]()
        else:
            starts, ends, axes, steps = (numbers(item) for item in (*said, *[None] * (4 - len(said))))
        for start, end, axis, step in zip(starts, ends, axes or range(len(starts)), steps or [1] * len(starts), strict=True):
            wanted = range(*slice(start, end, step).indices(x.shape[axis]))
            if step == 1:
                x = x.narrow(axis, wanted.start if wanted else 0, len(wanted))
            else:
                x = x.index_select(axis, torch.tensor(list(wanted), dtype=torch.int64, device=x.device))
        return x

    def gather(call: Call, x: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
        axis = call.whole("axis") % x.ndim
        found = x.index_select(axis, (indices.reshape(-1) % x.shape[axis]).long())
        return found.reshape((*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]))

    def gather_elements(call: Call, x: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
        axis = call.whole("axis")
        return torch.gather(x, axis, indices % x.shape[axis])

    def gather_nd(call: Call, x: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
        if call.whole("batch_dims"):
            raise call.refuse("batch_dims")
        return x[tuple(part.long() for part in indices.unbind(-1))]

    def scatter_nd(call: Call, x: torch.Tensor, indices: torch.Tensor, updates: torch.Tensor) -> torch.Tensor:
        how = call.text("reduction", "none")
        if how not in ("none", "add"):
            raise call.refuse(f"the reduction '{how}'")
        return x.index_put(tuple(part.long() for part in indices.unbind(-1)), updates, accumulate=how == "add")

    def pad(call: Call, x: torch.Tensor, pads: torch.Tensor | None = None, value: torch.Tensor | None = None, axes: torch.Tensor | None = None) -> torch.Tensor:
        given = call.wholes("pads") if pads is None else numbers(pads)
        dims = [axis % x.ndim for axis in numbers(axes)] if axes is not None else list(range(x.ndim))
        sides = {axis: (given[place], given[place + len(dims)]) for place, axis in enumerate(dims)}
        number = call.number("value") if value is None else float(value)
        mode = {"constant": "constant", "reflect": "reflect", "edge": "replicate"}.get(call.text("mode", "constant"))
        if mode is None:
            raise call.refuse(f"the mode '{call.text('mode')}'")
        if mode == "constant":
            return functional.pad(x, [side for axis in reversed(range(x.ndim)) for side in sides.get(axis, (0, 0))], value=number)
        for axis, (before, after) in sides.items():
            if before or after:
                lines = x.movedim(axis, -1)
                longer = functional.pad(lines.reshape(1, -1, lines.shape[-1]), (before, after), mode=mode)
                x = longer.reshape(*lines.shape[:-1], -1).movedim(-1, axis)
        return x

    def depth_to_space(call: Call, x: torch.Tensor) -> torch.Tensor:
        size, (batch, depth, height, width) = call.whole("blocksize"), x.shape
        if call.text("mode", "DCR") == "DCR":
            parts = x.reshape(batch, size, size, depth // size**2, height, width).permute(0, 3, 4, 1, 5, 2)
        else:
            parts = x.reshape(batch, depth // size**2, size, size, height, width).permute(0, 1, 4, 2, 5, 3)
        return parts.reshape(batch, depth // size**2, height * size, width * size)

    def space_to_depth(call: Call, x: torch.Tensor) -> torch.Tensor:
        size, (batch, depth, height, width) = call.whole("blocksize"), x.shape
        parts = x.reshape(batch, depth, height // size, size, width // size, size).permute(0, 3, 5, 1, 2, 4)
        return parts.reshape(batch, depth * size**2, height // size, width // size)

    def one_hot(call: Call, indices: torch.Tensor, depth: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        size, axis = numbers(depth)[0], call.whole("axis", -1)
        places = torch.arange(size, device=indices.device)
        hit = (indices.long() + size * (indices < 0)).unsqueeze(-1) == places
        return torch.where(hit, values[1], values[0]).movedim(-1, axis)

    def triangle(call: Call, x: torch.Tensor, diagonal: torch.Tensor | None = None) -> torch.Tensor:
        return (x.triu if call.whole("upper", 1) else x.tril)(0 if diagonal is None else numbers(diagonal)[0])

    return {
        "ConstantOfShape": filled, "Range": counted, "Shape": shape,
        "Size": lambda call, x: torch.tensor(x.numel(), dtype=torch.int64, device=x.device),
        "Reshape": reshape, "Flatten": flatten, "Squeeze": squeeze, "Unsqueeze": unsqueeze, "Expand": expand,
        "Transpose": lambda call, x: x.permute(call.wholes("perm") if call.given("perm") else list(reversed(range(x.ndim)))),
        "Concat": lambda call, *inputs: torch.cat(inputs, dim=call.whole("axis")),
        "Tile": lambda call, x, times: x.repeat(numbers(times)),
        "Split": split, "Slice": cut, "Gather": gather, "GatherElements": gather_elements, "GatherND": gather_nd, "ScatterND": scatter_nd,
        "ScatterElements": lambda call, x, indices, updates: x.scatter(call.whole("axis"), indices % x.shape[call.whole("axis")], updates),
        "Pad": pad, "DepthToSpace": depth_to_space, "SpaceToDepth": space_to_depth, "Trilu": triangle, "OneHot": one_hot,
    }  # fmt: skip
