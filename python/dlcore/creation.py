"""Functions that make tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dlcore import _core, dtype, trace
from dlcore.elementwise import where
from dlcore.shaping import sizes
from dlcore.tensor import Tensor, TensorLike, apply1, as_tensor, cast_to, to_core

Shape = int | Sequence[int]


def _check_device(device: str | None) -> None:
    if device not in (None, "cpu"):
        raise ValueError(f"device {device!r} is not available; this build knows 'cpu'")


def tensor(data: TensorLike, dtype: Any = None, device: str | None = None) -> Tensor:
    """A tensor with a copy of the data (anything NumPy can view). float64 becomes float32 unless `dtype` asks."""
    _check_device(device)
    wanted = None if dtype is None else _dtype(dtype)
    if isinstance(data, Tensor) and data.is_traced:
        return data if wanted is None else cast_to(data, wanted)
    return Tensor(to_core(data, wanted, copy=True))


def asarray(data: TensorLike, dtype: Any = None) -> Tensor:
    """A tensor of anything NumPy can view, sharing memory where dtype and layout allow."""
    if isinstance(data, Tensor):
        return data if dtype is None else cast_to(data, _dtype(dtype))
    return Tensor(to_core(data, None if dtype is None else _dtype(dtype)))


def from_dlpack(source: Any) -> Tensor:
    """A tensor that shares memory with an object that has __dlpack__ (CPU only)."""
    if not hasattr(source, "__dlpack_device__"):
        raise TypeError(f"from_dlpack takes an object with __dlpack__, got {type(source).__name__}")
    if source.__dlpack_device__()[0] != 1:
        raise ValueError(f"only CPU memory can be shared, got DLPack device {source.__dlpack_device__()}")
    return Tensor(_core.Tensor.from_dlpack(source.__dlpack__()))


def _dtype(value: Any) -> dtype.DType:
    return dtype.as_dtype(value)


def full(shape: Shape, value: float, dtype: Any = None) -> Tensor:
    """Every element `value`; the dtype follows the value (float32, int64, bool) unless given."""
    to = _dtype(type(value) if dtype is None else dtype)
    return apply1("full", (), {"value": float(value), "shape": sizes(shape), "dtype": to.code})


def zeros(shape: Shape, dtype: Any = dtype.float32) -> Tensor:
    return full(shape, 0, dtype)


def ones(shape: Shape, dtype: Any = dtype.float32) -> Tensor:
    return full(shape, 1, dtype)


def full_like(x: TensorLike, value: float, dtype: Any = None) -> Tensor:
    t = as_tensor(x)
    return full(t.shape, value, t.dtype if dtype is None else dtype)


def zeros_like(x: TensorLike, dtype: Any = None) -> Tensor:
    return full_like(x, 0, dtype)


def ones_like(x: TensorLike, dtype: Any = None) -> Tensor:
    return full_like(x, 1, dtype)


def arange(start: float, stop: float | None = None, step: float = 1, dtype: Any = None) -> Tensor:
    """start, start + step, … below stop (`arange(n)`: 0 … n-1); int64 for integers, else float32."""
    if stop is None:
        start, stop = 0, start
    if step == 0:
        raise ValueError("[arange] the step must not be 0")
    n = max(0, -int((start - stop) // step))
    whole = all(isinstance(v, int) for v in (start, stop, step))
    to = _dtype((int if whole else float) if dtype is None else dtype)
    counted = apply1("iota", (), {"size": n, "dtype": to.code if whole else "f64"})
    if step != 1:
        counted = counted * step
    return cast_to(counted + start if start else counted, to)


def linspace(start: float, stop: float, count: int = 50, dtype: Any = None) -> Tensor:
    """`count` evenly spaced numbers from start to stop, both included."""
    to = _dtype(float if dtype is None else dtype)
    i = apply1("iota", (), {"size": count, "dtype": "f64"})
    last = max(count - 1, 1)
    return cast_to((i * (stop - start)) / last + start, to)


def eye(n: int, m: int | None = None, dtype: Any = dtype.float32) -> Tensor:
    """n × m (n × n) with ones on the diagonal."""
    rows, columns = arange(n).reshape(n, 1), arange(n if m is None else m)
    return cast_to(rows == columns, _dtype(dtype))


def one_hot(indices: TensorLike, size: int, dtype: Any = dtype.float32) -> Tensor:
    """indices.shape + (size,): 1 at the index, else 0 (all 0 for an index outside)."""
    i = as_tensor(indices)
    if i.dtype.kind != "int":
        raise TypeError(f"[one_hot] indices must be integers, got {i.dtype}")
    return cast_to(i.reshape(*i.shape, 1) == arange(size), _dtype(dtype))


def _band(x: TensorLike, k: int, lower: bool) -> Tensor:
    t = as_tensor(x)
    if t.ndim < 2:
        raise ValueError(f"[tril/triu] needs at least two dimensions, got {t.shape}")
    rows, columns = arange(t.shape[-2]).reshape(-1, 1) + k, arange(t.shape[-1])
    zero = apply1("full", (), {"value": 0.0, "shape": (), "dtype": t.dtype.code})
    return where(columns <= rows if lower else columns >= rows, t, zero)


def tril(x: TensorLike, k: int = 0) -> Tensor:
    """The lower triangle of the last two axes, zeros above diagonal k."""
    return _band(x, k, True)


def triu(x: TensorLike, k: int = 0) -> Tensor:
    """The upper triangle of the last two axes, zeros below diagonal k."""
    return _band(x, k, False)


def is_tracing() -> bool:
    """Whether the code now runs to be traced."""
    return trace.current() is not None
