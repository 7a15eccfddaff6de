"""x[…]: NumPy's indexing by ints, slices, None, Ellipsis, integer arrays on neighbouring axes, and boolean masks."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from dlcore import dtype
from dlcore.elementwise import where
from dlcore.errors import trace_error
from dlcore.shaping import take
from dlcore.tensor import Tensor, apply1, as_tensor


def getitem(x: Tensor, index: Any) -> Tensor:
    entries = list(index) if isinstance(index, tuple) else [index]
    entries = [_as_array(e) for e in entries]
    if any(isinstance(e, Tensor) and e.dtype is dtype.bool_ for e in entries):
        return _masked(x, entries)
    entries = _complete(entries, x.shape)

    # First the slices and ints; the arrays see what is left.
    basic: list[tuple[int, int, int]] = []  # start, stop, step of each axis of x
    kept: list[Any] = []  # what becomes of it: "int", "new", "axis", or a Tensor of indices
    for entry in entries:
        if entry is None:
            kept.append("new")
            continue
        axis, size = len(basic), x.shape[len(basic)]
        if isinstance(entry, slice):
            basic.append(entry.indices(size))
            kept.append("axis")
        elif isinstance(entry, Tensor):
            basic.append((0, size, 1))
            kept.append(entry)
        else:
            i = operator.index(entry)
            if not -size <= i < size:
                raise IndexError(f"index {i} is outside axis {axis} of size {size} (shape {x.shape})")
            basic.append((i % size, i % size + 1, 1))
            kept.append("int")
    x = _slice(x, basic)
    shape = iter(x.shape)
    final: list[int] = []
    arrays: list[tuple[int, Tensor]] = []
    for kind in kept:
        if isinstance(kind, Tensor):
            arrays.append((len(final), kind))
        size = 1 if isinstance(kind, str) and kind == "new" else next(shape)
        if not (isinstance(kind, str) and kind == "int"):
            final.append(size)
    if tuple(final) != x.shape:
        x = apply1("reshape", (x,), {"shape": final})
    return _take(x, arrays) if arrays else x


def _as_array(entry: Any) -> Any:
    if isinstance(entry, (list, np.ndarray)) or (isinstance(entry, Tensor) and entry.ndim):
        made = as_tensor(np.asarray(entry) if isinstance(entry, list) else entry)
        if made.size == 0 and isinstance(entry, list):
            made = made.astype(dtype.int64)
        if made.dtype.is_float:
            raise IndexError(f"an index must be of integers or booleans, got {made.dtype}")
        return made
    if isinstance(entry, Tensor) and entry.is_traced:
        return entry
    if isinstance(entry, (bool, np.bool_)):
        raise IndexError("an index must not be a boolean; use dl.where, or None for a new axis")
    if entry is None or entry is Ellipsis or isinstance(entry, slice):
        return entry
    try:
        return operator.index(entry)
    except TypeError:
        raise IndexError(
            f"an index must be an int, slice, None, ... or an array of integers or booleans, got {type(entry).__name__}"
        ) from None


def _complete(entries: list[Any], shape: tuple[int, ...]) -> list[Any]:
    """With the Ellipsis, which may be left out at the end, written as full slices."""
    used = sum(e is not None and e is not Ellipsis for e in entries)
    if used > len(shape):
        raise IndexError(f"too many indices ({used}) for shape {shape}")
    dots = [i for i, e in enumerate(entries) if e is Ellipsis]
    if len(dots) > 1:
        raise IndexError("an index has at most one '...'")
    at = dots[0] if dots else len(entries)
    return [*entries[:at], *[slice(None)] * (len(shape) - used), *entries[at + 1 :]]


def _slice(x: Tensor, basic: Sequence[tuple[int, int, int]]) -> Tensor:
    start, stop, step, backwards = [], [], [], []
    for axis, (a, b, s) in enumerate(basic):
        n = len(range(a, b, s))
        if s < 0:  # the same elements upwards, then reversed
            a, s = a + (n - 1) * s, -s
            backwards.append(axis)
        start.append(a if n else 0)
        stop.append(a + (n - 1) * s + 1 if n else 0)
        step.append(s)
    if any(a or b != d or s != 1 for a, b, s, d in zip(start, stop, step, x.shape, strict=True)):
        x = apply1("slice", (x,), {"start": start, "stop": stop, "step": step})
    return apply1("reverse", (x,), {"axes": backwards}) if backwards else x


def _take(x: Tensor, arrays: list[tuple[int, Tensor]]) -> Tensor:
    """One array, or several on neighbouring axes (as one index over these axes flattened)."""
    first, count = arrays[0][0], len(arrays)
    if [axis for axis, _ in arrays] != list(range(first, first + count)):
        raise IndexError("arrays of indices must stand on neighbouring axes; transpose first, or index in two steps")
    shape = x.shape
    flat: Tensor | None = None
    for axis, indices in arrays:
        size = shape[axis]
        indices = _not_negative(indices.astype(dtype.int64), size, axis)
        flat = indices if flat is None else flat * size + indices
    assert flat is not None
    merged = math.prod(shape[first : first + count])
    if count > 1:
        x = apply1("reshape", (x,), {"shape": (*shape[:first], merged, *shape[first + count :])})
    return take(x, flat, first)


def _not_negative(indices: Tensor, size: int, axis: int) -> Tensor:
    if not indices.is_traced and indices.size:
        values = indices.numpy()
        if values.min() < -size or values.max() >= size:
            bad = int(values[(values < -size) | (values >= size)].reshape(-1)[0])
            raise IndexError(f"index {bad} is outside axis {axis} of size {size}")
        if values.min() >= 0:
            return indices
        return as_tensor(np.where(values < 0, values + size, values))
    return where(indices < 0, indices + size, indices)


def _masked(x: Tensor, entries: list[Any]) -> Tensor:
    if x.is_traced or any(isinstance(e, Tensor) and e.is_traced for e in entries):
        raise trace_error(
            "a boolean mask (its result's shape depends on values)", "use dl.where(mask, x, 0) and dl.sum"
        )
    return as_tensor(x.numpy()[tuple(e.numpy() if isinstance(e, Tensor) else e for e in entries)].copy())
