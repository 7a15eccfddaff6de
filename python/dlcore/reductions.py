"""Functions that reduce, order or normalise along axes. `axis=None` means all axes."""

from __future__ import annotations

import builtins
import math

from dlcore import dtype
from dlcore.elementwise import _as_float, exp, log, sqrt, stop_gradient, where
from dlcore.shaping import axis_of, concatenate, reshape, sizes, squeeze, swapaxes
from dlcore.tensor import Axes, Tensor, TensorLike, apply, apply1, as_tensor, cast_to


def _axes(axis: Axes, ndim: int, op: str) -> list[int]:
    if axis is None:
        return list(range(ndim))
    axes = sorted(axis_of(a, ndim, op) for a in sizes(axis))
    if len(set(axes)) != len(axes):
        raise ValueError(f"[{op}] an axis is named twice: {axis}")
    return axes


def _reduce(op: str, t: Tensor, axis: Axes, keepdims: bool) -> Tensor:
    return apply1(op, (t,), {"axes": _axes(axis, t.ndim, op), "keepdims": keepdims})


def sum(x: TensorLike, axis: Axes = None, keepdims: bool = False) -> Tensor:
    """Integers and booleans sum as int64."""
    t = as_tensor(x)
    return _reduce("sum", t if t.dtype.is_float else cast_to(t, dtype.int64), axis, keepdims)


def count(shape: tuple[int, ...], axis: Axes) -> int:
    """How many elements each result of a reduction takes in."""
    return math.prod(shape[a] for a in _axes(axis, len(shape), "count"))


def mean(x: TensorLike, axis: Axes = None, keepdims: bool = False) -> Tensor:
    """The average; NaN of no elements. Integers become float32."""
    t = _as_float(x)
    n = count(t.shape, axis)
    return _reduce("sum", t, axis, keepdims) / (float(n) if n else math.nan)


def var(x: TensorLike, axis: Axes = None, ddof: int = 0, keepdims: bool = False) -> Tensor:
    """The mean squared distance from the mean, divided by n - ddof."""
    t = _as_float(x)
    centred = t - mean(t, axis, keepdims=True)
    n = count(t.shape, axis) - ddof
    return _reduce("sum", centred * centred, axis, keepdims) / (float(n) if n > 0 else math.nan)


def std(x: TensorLike, axis: Axes = None, ddof: int = 0, keepdims: bool = False) -> Tensor:
    """The square root of the variance."""
    return _root(var(x, axis, ddof, keepdims))


def _root(powers: Tensor, p: float = 2) -> Tensor:
    """The p-th root of a sum of powers; where that is 0 the slope is 0, as in PyTorch."""
    none = powers == 0.0
    safe = where(none, 1.0, powers)
    return where(none, 0.0, sqrt(safe) if p == 2 else safe ** (1 / p))


def _extreme(op: str, x: TensorLike, axis: Axes, keepdims: bool) -> Tensor:
    t = as_tensor(x)
    if count(t.shape, axis) == 0:
        raise ValueError(f"[{op}] of no elements: shape {t.shape}, axis {axis}")
    return _reduce(op, t, axis, keepdims)


def max(x: TensorLike, axis: Axes = None, keepdims: bool = False) -> Tensor:
    """The largest; NaN if one is there."""
    return _extreme("max", x, axis, keepdims)


def min(x: TensorLike, axis: Axes = None, keepdims: bool = False) -> Tensor:
    """The smallest; NaN if one is there."""
    return _extreme("min", x, axis, keepdims)


def any(x: TensorLike, axis: Axes = None, keepdims: bool = False) -> Tensor:
    """Whether one element is true."""
    return _reduce("max", cast_to(as_tensor(x), dtype.bool_), axis, keepdims)


def all(x: TensorLike, axis: Axes = None, keepdims: bool = False) -> Tensor:
    """Whether every element is true."""
    return _reduce("min", cast_to(as_tensor(x), dtype.bool_), axis, keepdims)


def prod(x: TensorLike, axis: int) -> Tensor:
    """The product along one axis, by halves."""
    t = as_tensor(x)
    a = axis_of(axis, t.ndim, "prod")
    index: list[slice] = [slice(None)] * t.ndim
    while t.shape[a] > 1:
        half, odd = divmod(t.shape[a], 2)
        low, high = [*index], [*index]
        low[a], high[a] = slice(0, half), slice(half, 2 * half)
        folded = t[tuple(low)] * t[tuple(high)]
        if odd:
            low[a] = slice(2 * half, None)
            folded = concatenate([folded, t[tuple(low)]], a)
        t = folded
    return squeeze(t, a)


def _arg(op: str, x: TensorLike, axis: int | None, keepdims: bool) -> Tensor:
    t = as_tensor(x)
    if axis is None:
        t, axis = reshape(t, (-1,)), 0
    a = axis_of(axis, t.ndim, op)
    if t.shape[a] == 0:
        raise ValueError(f"[{op}] of no elements: shape {t.shape}, axis {axis}")
    return apply1(op, (t,), {"axis": a, "keepdims": keepdims})


def argmax(x: TensorLike, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """The int64 index of the largest, the first of equals; of the flattened tensor when axis is None."""
    return _arg("argmax", x, axis, keepdims)


def argmin(x: TensorLike, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """The int64 index of the smallest, the first of equals."""
    return _arg("argmin", x, axis, keepdims)


def sort(x: TensorLike, axis: int = -1, descending: bool = False) -> tuple[Tensor, Tensor]:
    """(values, indices): stable, NaN last."""
    t = as_tensor(x)
    values, indices = apply("sort", (t,), {"axis": axis_of(axis, t.ndim, "sort"), "descending": descending})
    return values, indices


def argsort(x: TensorLike, axis: int = -1, descending: bool = False) -> Tensor:
    return sort(x, axis, descending)[1]


def topk(x: TensorLike, k: int, axis: int = -1, largest: bool = True) -> tuple[Tensor, Tensor]:
    """(values, indices) of the k largest (or smallest) along the axis, in order."""
    t = as_tensor(x)
    a = axis_of(axis, t.ndim, "topk")
    if not 0 <= k <= t.shape[a]:
        raise ValueError(f"[topk] k = {k} is outside 0 … {t.shape[a]} (axis {axis} of {t.shape})")
    index: list[slice] = [slice(None)] * t.ndim
    index[a] = slice(0, k)
    values, indices = sort(t, a, largest)
    return values[tuple(index)], indices[tuple(index)]


def cumsum(x: TensorLike, axis: int) -> Tensor:
    """Running sums along the axis."""
    t = as_tensor(x)
    t = t if t.dtype.is_float else cast_to(t, dtype.int64)
    return apply1("cumsum", (t,), {"axis": axis_of(axis, t.ndim, "cumsum"), "reverse": False})


def _rows(op: str, x: TensorLike, axis: int) -> Tensor:
    t = _as_float(x)
    a = axis_of(axis, t.ndim, op)
    if a == t.ndim - 1:
        return apply1(op, (t,))
    return swapaxes(apply1(op, (swapaxes(t, a, -1),)), a, -1)


def softmax(x: TensorLike, axis: int = -1) -> Tensor:
    """exp(x) / sum(exp(x)) along the axis, without overflow."""
    return _rows("softmax", x, axis)


def log_softmax(x: TensorLike, axis: int = -1) -> Tensor:
    """log(softmax(x)), accurately."""
    return _rows("log_softmax", x, axis)


def logsumexp(x: TensorLike, axis: Axes = -1, keepdims: bool = False) -> Tensor:
    """log(sum(exp(x))) without overflow."""
    t = _as_float(x)
    top = stop_gradient(_reduce("max", t, axis, True))
    zero = top * 0.0
    shift = where(zero == 0.0, top, 0.0)  # an infinite maximum is not subtracted from itself
    total = log(_reduce("sum", exp(t - shift), axis, True)) + shift
    return total if keepdims else squeeze(total, _axes(axis, t.ndim, "logsumexp"))


def norm(x: TensorLike, axis: Axes = None, p: float = 2, keepdims: bool = False) -> Tensor:
    """The p-norm: (sum |x|**p)**(1/p); p may be infinite, or 0 for the number of elements that are not 0."""
    t = _as_float(x)
    if p == 2:
        return _root(_reduce("sum", t * t, axis, keepdims))
    if p == 0:
        return _reduce("sum", cast_to(t != 0.0, t.dtype), axis, keepdims)
    size = builtins.abs(p)
    magnitude = apply1("abs", (t,))
    if p == 1:
        return _reduce("sum", magnitude, axis, keepdims)
    if math.isinf(size):
        return _reduce("max" if p > 0 else "min", magnitude, axis, keepdims)
    powers = _reduce("sum", _root(magnitude, 1 / p) if 0 < p < 1 else magnitude**p, axis, keepdims)
    return _root(powers, p) if p > 0 else powers ** (1 / p)
