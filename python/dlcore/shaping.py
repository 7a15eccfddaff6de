"""Functions that move elements without computing on them."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any

from dlcore import dtype
from dlcore.tensor import Tensor, TensorLike, apply1, as_tensor, cast_to, operands, unary


def axis_of(axis: int, ndim: int, op: str) -> int:
    """The axis counted from 0; ValueError outside [-ndim, ndim)."""
    axis = operator.index(axis)
    if not -ndim <= axis < ndim:
        raise ValueError(f"[{op}] axis {axis} is out of range for {ndim} dimension(s)")
    return axis % ndim


def sizes(shape: Any) -> tuple[int, ...]:
    """A shape from an int or a sequence of ints."""
    if isinstance(shape, int):
        return (shape,)
    return tuple(operator.index(d) for d in shape)


def reshape(x: TensorLike, shape: int | Sequence[int]) -> Tensor:
    """The same elements in row-major order under another shape; one size may be -1."""
    t = as_tensor(x)
    wanted = list(sizes(shape))
    have = t.shape
    total = math.prod(have)
    if -1 in wanted:
        rest = -math.prod(wanted)
        if wanted.count(-1) > 1 or rest < 0 or (rest == 0 and total) or (rest and total % rest):
            raise ValueError(f"[reshape] cannot give {have} the shape {tuple(wanted)}")
        wanted[wanted.index(-1)] = total // rest if rest else 0
    if math.prod(wanted) != total or any(d < 0 for d in wanted):
        raise ValueError(
            f"[reshape] {have} has {total} elements, the new shape {tuple(wanted)} has {math.prod(wanted)}"
        )
    return t if tuple(wanted) == have else apply1("reshape", (t,), {"shape": wanted})


def flatten(x: TensorLike, start: int = 0, end: int = -1) -> Tensor:
    """Axes start..end (inclusive) as one."""
    t = as_tensor(x)
    shape = t.shape
    if not shape:
        return reshape(t, (1,))
    a, b = axis_of(start, len(shape), "flatten"), axis_of(end, len(shape), "flatten")
    return reshape(t, (*shape[:a], math.prod(shape[a : b + 1]), *shape[b + 1 :]))


def transpose(x: TensorLike, axes: Sequence[int] | None = None) -> Tensor:
    """The axes in a new order; None reverses them."""
    t = as_tensor(x)
    n = t.ndim
    perm = list(range(n))[::-1] if axes is None else [axis_of(a, n, "transpose") for a in axes]
    if sorted(perm) != list(range(n)):
        raise ValueError(f"[transpose] {tuple(perm)} is no order of the {n} axes of {t.shape}")
    return t if perm == list(range(n)) else apply1("transpose", (t,), {"perm": perm})


permute = transpose


def swapaxes(x: TensorLike, a: int, b: int) -> Tensor:
    t = as_tensor(x)
    perm = list(range(t.ndim))
    i, j = axis_of(a, t.ndim, "swapaxes"), axis_of(b, t.ndim, "swapaxes")
    perm[i], perm[j] = perm[j], perm[i]
    return transpose(t, perm)


def moveaxis(x: TensorLike, source: int, destination: int) -> Tensor:
    t = as_tensor(x)
    perm = list(range(t.ndim))
    axis = perm.pop(axis_of(source, t.ndim, "moveaxis"))
    perm.insert(axis_of(destination, t.ndim, "moveaxis"), axis)
    return transpose(t, perm)


def squeeze(x: TensorLike, axis: int | Sequence[int] | None = None) -> Tensor:
    """Without the axes of size 1 (all, or those named)."""
    t = as_tensor(x)
    shape = t.shape
    if axis is None:
        return reshape(t, [d for d in shape if d != 1])
    drop = {axis_of(a, len(shape), "squeeze") for a in sizes(axis)}
    for a in drop:
        if shape[a] != 1:
            raise ValueError(f"[squeeze] axis {a} of {shape} has size {shape[a]}, not 1")
    return reshape(t, [d for i, d in enumerate(shape) if i not in drop])


def expand_dims(x: TensorLike, axis: int) -> Tensor:
    """With a new axis of size 1 at `axis` of the result."""
    t = as_tensor(x)
    a = axis_of(axis, t.ndim + 1, "expand_dims")
    return reshape(t, (*t.shape[:a], 1, *t.shape[a:]))


unsqueeze = expand_dims


def broadcast_to(x: TensorLike, shape: int | Sequence[int]) -> Tensor:
    t = as_tensor(x)
    wanted = sizes(shape)
    return t if t.shape == wanted else apply1("broadcast_to", (t,), {"shape": wanted})


def concatenate(tensors: Sequence[TensorLike], axis: int = 0) -> Tensor:
    """Tensors joined along an axis that exists; the other sizes agree."""
    parts = operands(list(tensors)) if len(tensors) else []
    if not parts:
        raise ValueError("[concatenate] needs at least one tensor")
    a = axis_of(axis, parts[0].ndim, "concatenate")
    return parts[0] if len(parts) == 1 else apply1("concat", parts, {"axis": a})


def stack(tensors: Sequence[TensorLike], axis: int = 0) -> Tensor:
    """Tensors of one shape joined along a new axis."""
    parts = [as_tensor(t) for t in tensors]
    for p in parts[1:]:
        if p.shape != parts[0].shape:
            raise ValueError(f"[stack] shapes differ: {parts[0].shape} and {p.shape}")
    return concatenate([expand_dims(p, axis) for p in parts], axis)


def split(x: TensorLike, parts: int | Sequence[int], axis: int = 0) -> list[Tensor]:
    """NumPy's split: into `parts` equal parts, or before each of the given positions."""
    t = as_tensor(x)
    a = axis_of(axis, t.ndim, "split")
    size = t.shape[a]
    if isinstance(parts, int):
        if parts < 1 or size % parts:
            raise ValueError(f"[split] axis {a} of {t.shape} cannot be cut into {parts} equal parts")
        cuts = [size // parts * i for i in range(1, parts)]
    else:
        cuts = [operator.index(c) for c in parts]
    index: list[Any] = [slice(None)] * t.ndim
    result = []
    for start, stop in zip([0, *cuts], [*cuts, size], strict=True):
        index[a] = slice(start, stop)
        result.append(t[tuple(index)])
    return result


def chunk(x: TensorLike, parts: int, axis: int = 0) -> list[Tensor]:
    """PyTorch's chunk: at most `parts` parts of equal size, the last one smaller."""
    t = as_tensor(x)
    if parts < 1:
        raise ValueError(f"[chunk] parts must be at least 1, got {parts}")
    size = t.shape[axis_of(axis, t.ndim, "chunk")]
    step = max(1, -(-size // parts))
    return split(t, list(range(step, size, step)), axis)


def unstack(x: TensorLike, axis: int = 0) -> list[Tensor]:
    """The slices along an axis, without it."""
    t = as_tensor(x)
    return [squeeze(p, axis) for p in split(t, t.shape[axis_of(axis, t.ndim, "unstack")], axis)]


def pad(x: TensorLike, widths: Sequence[tuple[int, int]], value: float = 0.0) -> Tensor:
    """NumPy's constant padding: (before, after) for each axis, both at least 0."""
    t = as_tensor(x)
    if len(widths) != t.ndim:
        raise ValueError(f"[pad] needs {t.ndim} pairs (before, after), got {len(widths)}")
    low, high = [operator.index(w[0]) for w in widths], [operator.index(w[1]) for w in widths]
    if min([*low, *high, 0]) < 0:
        raise ValueError(f"[pad] widths must not be negative, got {list(widths)}; slice to cut")
    return apply1("pad", (t,), {"low": low, "high": high, "interior": [0] * t.ndim, "value": float(value)})


def flip(x: TensorLike, axis: int | Sequence[int]) -> Tensor:
    """In reverse order along the axes."""
    t = as_tensor(x)
    return apply1("reverse", (t,), {"axes": [axis_of(a, t.ndim, "flip") for a in sizes(axis)]})


def roll(x: TensorLike, shift: int, axis: int) -> Tensor:
    """Shifted along the axis; what leaves at one end comes in at the other."""
    t = as_tensor(x)
    size = t.shape[axis_of(axis, t.ndim, "roll")]
    if not size or not shift % size:
        return t
    head, tail = split(t, [size - shift % size], axis)
    return concatenate([tail, head], axis)


def repeat(x: TensorLike, count: int, axis: int) -> Tensor:
    """NumPy's repeat: each element `count` times in a row."""
    t = as_tensor(x)
    a = axis_of(axis, t.ndim, "repeat")
    shape = t.shape
    wide = broadcast_to(expand_dims(t, a + 1), (*shape[: a + 1], count, *shape[a + 1 :]))
    return reshape(wide, (*shape[:a], shape[a] * count, *shape[a + 1 :]))


def tile(x: TensorLike, counts: int | Sequence[int]) -> Tensor:
    """NumPy's tile: the whole tensor `counts` times along each axis."""
    t = as_tensor(x)
    times = sizes(counts)
    n = max(t.ndim, len(times))
    times = (1,) * (n - len(times)) + times
    shape = (1,) * (n - t.ndim) + t.shape
    wide = broadcast_to(
        reshape(t, [d for s in shape for d in (1, s)]), [d for c, s in zip(times, shape, strict=True) for d in (c, s)]
    )
    return reshape(wide, [c * s for c, s in zip(times, shape, strict=True)])


def take(x: TensorLike, indices: TensorLike, axis: int = 0) -> Tensor:
    """Slices of x at the (integer) indices of an axis; IndexError for one outside [0, size)."""
    t, i = as_tensor(x), as_tensor(indices)
    if i.dtype.kind != "int":
        raise TypeError(f"[take] indices must be integers, got {i.dtype}")
    a = axis_of(axis, t.ndim, "take")
    if not a:
        return apply1("take", (t, i))
    rows = apply1("take", (moveaxis(t, a, 0), i))
    k = i.ndim
    order = [*range(k, k + a), *range(k), *range(k + a, rows.ndim)]
    return transpose(rows, order)


def take_along_axis(x: TensorLike, indices: TensorLike, axis: int) -> Tensor:
    """y[.., i, ..] = x[.., indices[.., i, ..], ..] along the axis, the other sizes agreeing."""
    t, i = as_tensor(x), as_tensor(indices)
    return apply1("take_along_axis", (t, cast_to(i, dtype.int64)), {"axis": axis_of(axis, t.ndim, "take_along_axis")})


def gather(x: TensorLike, axis: int, indices: TensorLike) -> Tensor:
    """PyTorch's gather: take_along_axis with its argument order."""
    return take_along_axis(x, indices, axis)


def scatter_add(values: TensorLike, indices: TensorLike, size: int) -> Tensor:
    """[size, …]: zeros to which row values[i] is added at indices[i]."""
    v, i = as_tensor(values), as_tensor(indices)
    return apply1("scatter_add", (v, i), {"size": size})


def copy(x: TensorLike) -> Tensor:
    return unary("copy", x)
