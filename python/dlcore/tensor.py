"""Tensor: concrete memory of the core, or a value of the graph being traced; the operators are those of NumPy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, TypeAlias, cast

import numpy as np
import numpy.typing as npt

from dlcore import _core, dtype, trace
from dlcore._core import Tensor as CoreTensor
from dlcore.dtype import DType, as_dtype, promote
from dlcore.errors import TraceError, trace_error

Scalar: TypeAlias = "bool | int | float"
TensorLike: TypeAlias = "Tensor | npt.ArrayLike"
_NO_ATTRS: dict[str, Any] = {}


class Tensor:
    """An n-dimensional array. Immutable: operations give new tensors. `dl.tensor(data)` makes one."""

    __slots__ = ("__weakref__", "_core", "_id", "_trace")
    __array_priority__ = 1000
    __hash__ = object.__hash__
    role: ClassVar[str] = "const"

    _core: CoreTensor | None
    _trace: trace.Trace | None
    _id: int

    def __init__(self, core: CoreTensor | None, owner: trace.Trace | None = None, value: int = -1) -> None:
        self._core = core
        self._trace = owner
        self._id = value

    @property
    def core(self) -> CoreTensor:
        """The memory; TraceError for a traced tensor."""
        if self._core is None:
            raise trace_error("memory was asked for", "keep it outside the traced function, or return it as an output")
        return self._core

    @property
    def is_traced(self) -> bool:
        return self._core is None

    # What is known of both kinds.
    @property
    def shape(self) -> tuple[int, ...]:
        return self._core.shape if self._core is not None else self._owner().graph.shape(self._id)

    @property
    def dtype(self) -> DType:
        return dtype.BY_CODE[self._core.dtype if self._core is not None else self._owner().graph.dtype(self._id)]

    @property
    def device(self) -> str:
        return "cpu"

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        """The number of elements."""
        n = 1
        for d in self.shape:
            n *= d
        return n

    def _owner(self) -> trace.Trace:
        assert self._trace is not None
        return self._trace

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("a tensor without dimensions has no len()")
        return self.shape[0]

    # Ways out to Python and NumPy.
    def numpy(self) -> npt.NDArray[Any]:
        """A read-only view that shares memory; bfloat16, which NumPy lacks, comes as a float32 copy."""
        if self._core is None:
            raise trace_error(".numpy()", "look at it outside, or return it as an extra output")
        core = self._core if self._core.dtype != "bf16" else _core.run_op("cast", [self._core], {"dtype": "f32"})[0]
        return core.numpy()

    def item(self) -> Any:
        """The value of a tensor of one element, as a Python number."""
        if self._core is None:
            raise trace_error(".item()", "keep it a tensor, or return it as an extra output")
        if self.size != 1:
            raise ValueError(f"[item] needs one element, got shape {self.shape}")
        return self.numpy().item()

    def tolist(self) -> Any:
        return self.numpy().tolist()

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> npt.NDArray[Any]:
        if self._core is None:
            raise trace_error("a NumPy conversion", "use dlcore's functions, or compute it outside")
        array = self.numpy()
        if dtype is not None and np.dtype(dtype) != array.dtype:
            if copy is False:
                raise ValueError(f"cannot view {array.dtype} as {np.dtype(dtype)} without a copy")
            return array.astype(dtype)
        return array.copy() if copy else array

    def __dlpack__(self, **kwargs: Any) -> object:
        return self.core.__dlpack__(**kwargs)

    def __dlpack_device__(self) -> tuple[int, int]:
        return (1, 0)

    def __bool__(self) -> bool:
        if self._core is None:
            raise trace_error(
                "bool() (an `if`, `while`, `and` or `not`)", "choose elementwise with dl.where(condition, a, b)"
            )
        if self.size != 1:
            raise ValueError(
                f"the truth of a tensor of shape {self.shape} is ambiguous; reduce it with dl.any or dl.all"
            )
        return bool(self.numpy().item())

    def _number(self, name: str) -> Any:
        if self._core is None:
            raise trace_error(f"{name}()", "keep it a tensor, or return it as an extra output")
        return self.item()

    def __float__(self) -> float:
        return float(self._number("float"))

    def __int__(self) -> int:
        return int(self._number("int"))

    def __index__(self) -> int:
        value = self._number("int")
        if self.dtype.kind != "int":
            raise TypeError(f"only an integer tensor can be an index, got {self.dtype}")
        return int(value)

    def __iter__(self) -> Iterator[Tensor]:
        if self._core is None:
            raise trace_error("iteration", "use whole-tensor operations, or `for i in range(len(x)): x[i]`")
        if not self.shape:
            raise TypeError("a tensor without dimensions cannot be iterated over")
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        if self._core is None:
            return f"Tensor(traced, shape={self.shape}, dtype={self.dtype!r})"
        body = np.array2string(self.numpy(), separator=", ", prefix="Tensor(", threshold=200, precision=4)
        return f"Tensor({body}, shape={self.shape}, dtype={self.dtype!r})"

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if spec and self.size == 1 else str(self)

    def __copy__(self) -> Tensor:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        return self  # immutable

    def __reduce__(self) -> Any:
        raise TypeError("tensors are not pickled; save them as safetensors (Module.save, Program.save)")

    # Indexing.
    def __getitem__(self, index: Any) -> Tensor:
        return indexing.getitem(self, index)

    def __setitem__(self, index: Any, value: Any) -> None:
        raise TypeError("tensors cannot be changed in place: use dl.where(mask, value, x), dl.concatenate or dl.pad")

    # Arithmetic.
    def __add__(self, other: TensorLike) -> Tensor:
        return binary("add", self, other)

    def __radd__(self, other: TensorLike) -> Tensor:
        return binary("add", other, self)

    def __sub__(self, other: TensorLike) -> Tensor:
        return binary("sub", self, other)

    def __rsub__(self, other: TensorLike) -> Tensor:
        return binary("sub", other, self)

    def __mul__(self, other: TensorLike) -> Tensor:
        return binary("mul", self, other)

    def __rmul__(self, other: TensorLike) -> Tensor:
        return binary("mul", other, self)

    def __truediv__(self, other: TensorLike) -> Tensor:
        return elementwise.divide(self, other)

    def __rtruediv__(self, other: TensorLike) -> Tensor:
        return elementwise.divide(other, self)

    def __floordiv__(self, other: TensorLike) -> Tensor:
        return elementwise.floor_divide(self, other)

    def __rfloordiv__(self, other: TensorLike) -> Tensor:
        return elementwise.floor_divide(other, self)

    def __mod__(self, other: TensorLike) -> Tensor:
        return binary("remainder", self, other)

    def __rmod__(self, other: TensorLike) -> Tensor:
        return binary("remainder", other, self)

    def __pow__(self, other: TensorLike) -> Tensor:
        return elementwise.power(self, other)

    def __rpow__(self, other: TensorLike) -> Tensor:
        return elementwise.power(other, self)

    def __matmul__(self, other: TensorLike) -> Tensor:
        return linalg.matmul(self, other)

    def __rmatmul__(self, other: TensorLike) -> Tensor:
        return linalg.matmul(other, self)

    def __neg__(self) -> Tensor:
        return unary("neg", self)

    def __pos__(self) -> Tensor:
        return self

    def __abs__(self) -> Tensor:
        return unary("abs", self)

    def __eq__(self, other: object) -> Tensor:  # type: ignore[override]
        return binary("eq", self, cast(TensorLike, other))

    def __ne__(self, other: object) -> Tensor:  # type: ignore[override]
        return binary("ne", self, cast(TensorLike, other))

    def __lt__(self, other: TensorLike) -> Tensor:
        return binary("lt", self, other)

    def __le__(self, other: TensorLike) -> Tensor:
        return binary("le", self, other)

    def __gt__(self, other: TensorLike) -> Tensor:
        return binary("gt", self, other)

    def __ge__(self, other: TensorLike) -> Tensor:
        return binary("ge", self, other)

    def __and__(self, other: TensorLike) -> Tensor:
        return elementwise.logical("logical_and", self, other)

    def __or__(self, other: TensorLike) -> Tensor:
        return elementwise.logical("logical_or", self, other)

    def __xor__(self, other: TensorLike) -> Tensor:
        return elementwise.logical("logical_xor", self, other)

    def __invert__(self) -> Tensor:
        return elementwise.logical_not(self)

    __rand__, __ror__, __rxor__ = __and__, __or__, __xor__

    # The methods that read well after a value; all are functions of dlcore as well.
    def astype(self, dtype: Any) -> Tensor:
        return cast_to(self, as_dtype(dtype))

    def detach(self) -> Tensor:
        """This value, as a constant to differentiation."""
        return elementwise.stop_gradient(self)

    def reshape(self, *shape: Any) -> Tensor:
        return shaping.reshape(self, shape[0] if len(shape) == 1 and not isinstance(shape[0], int) else shape)

    view = reshape

    def flatten(self, start: int = 0, end: int = -1) -> Tensor:
        return shaping.flatten(self, start, end)

    def transpose(self, *axes: Any) -> Tensor:
        """Of all axes: `x.transpose()` reverses them, `x.transpose(0, 2, 1)` permutes them (NumPy's meaning)."""
        return shaping.transpose(self, axes[0] if len(axes) == 1 and not isinstance(axes[0], int) else axes or None)

    permute = transpose

    def swapaxes(self, a: int, b: int) -> Tensor:
        return shaping.swapaxes(self, a, b)

    @property
    def T(self) -> Tensor:
        return shaping.transpose(self, None)

    @property
    def mT(self) -> Tensor:
        return shaping.swapaxes(self, -1, -2)

    def squeeze(self, axis: int | Sequence[int] | None = None) -> Tensor:
        return shaping.squeeze(self, axis)

    def unsqueeze(self, axis: int) -> Tensor:
        return shaping.expand_dims(self, axis)

    def sum(self, axis: Axes = None, keepdims: bool = False) -> Tensor:
        return reductions.sum(self, axis, keepdims)

    def mean(self, axis: Axes = None, keepdims: bool = False) -> Tensor:
        return reductions.mean(self, axis, keepdims)

    def var(self, axis: Axes = None, ddof: int = 0, keepdims: bool = False) -> Tensor:
        return reductions.var(self, axis, ddof, keepdims)

    def std(self, axis: Axes = None, ddof: int = 0, keepdims: bool = False) -> Tensor:
        return reductions.std(self, axis, ddof, keepdims)

    def max(self, axis: Axes = None, keepdims: bool = False) -> Tensor:
        return reductions.max(self, axis, keepdims)

    def min(self, axis: Axes = None, keepdims: bool = False) -> Tensor:
        return reductions.min(self, axis, keepdims)

    def argmax(self, axis: int | None = None, keepdims: bool = False) -> Tensor:
        return reductions.argmax(self, axis, keepdims)

    def argmin(self, axis: int | None = None, keepdims: bool = False) -> Tensor:
        return reductions.argmin(self, axis, keepdims)

    def any(self, axis: Axes = None, keepdims: bool = False) -> Tensor:
        return reductions.any(self, axis, keepdims)

    def all(self, axis: Axes = None, keepdims: bool = False) -> Tensor:
        return reductions.all(self, axis, keepdims)

    def cumsum(self, axis: int) -> Tensor:
        return reductions.cumsum(self, axis)

    def clip(self, low: TensorLike | None = None, high: TensorLike | None = None) -> Tensor:
        return elementwise.clip(self, low, high)

    def exp(self) -> Tensor:
        return elementwise.exp(self)

    def log(self) -> Tensor:
        return elementwise.log(self)

    def sqrt(self) -> Tensor:
        return elementwise.sqrt(self)

    def tanh(self) -> Tensor:
        return elementwise.tanh(self)

    def sigmoid(self) -> Tensor:
        return elementwise.sigmoid(self)

    def abs(self) -> Tensor:
        return elementwise.abs(self)

    def softmax(self, axis: int = -1) -> Tensor:
        return reductions.softmax(self, axis)


Axes: TypeAlias = "int | Sequence[int] | None"


def as_tensor(value: TensorLike, hint: DType | None = None) -> Tensor:
    """A tensor of anything NumPy can view, without a copy where possible; float64 becomes float32. `hint`: the dtype of
    a Python number."""
    if isinstance(value, Tensor):
        return value
    if hint is not None and isinstance(value, (bool, int, float)):
        return Tensor(_core.Tensor.from_numpy(np.asarray(value, hint.numpy), copy=True))
    return Tensor(to_core(value))


def to_core(value: Any, wanted: DType | None = None, copy: bool = False) -> _core.Tensor:
    """The core's tensor of any array-like; float64 becomes float32 unless `wanted` says otherwise."""
    if isinstance(value, Tensor):
        core = value.core
        if wanted is not None and core.dtype != wanted.code:
            return _core.run_op("cast", [core], {"dtype": wanted.code})[0]
        return core.clone() if copy else core
    array: npt.NDArray[Any] = value if isinstance(value, np.ndarray) else _array_of(value)
    target = wanted.numpy if wanted is not None else _NARROW.get(array.dtype.char)
    if target is not None and target != array.dtype:
        array, copy = array.astype(target), False
    if array.dtype.name not in _KNOWN:
        raise TypeError(f"an array of dtype {array.dtype} cannot become a tensor; expected numbers or booleans")
    core = _core.Tensor.from_numpy(np.asarray(array, order="C", dtype=array.dtype.newbyteorder("=")), copy=copy)
    if wanted is not None and wanted.numpy is None:  # bfloat16
        core = _core.run_op("cast", [core], {"dtype": wanted.code})[0]
    return core


# float64 → float32 as users of float32 models expect; types the core lacks go to the next larger.
_NARROW: Mapping[str, np.dtype[Any]] = {
    "d": np.dtype(np.float32), "g": np.dtype(np.float32), "h": np.dtype(np.int32), "H": np.dtype(np.int32),
    "I": np.dtype(np.int64), "L": np.dtype(np.int64), "Q": np.dtype(np.int64),
}  # fmt: skip
_KNOWN = frozenset(d.name for d in dtype.ALL)


def _array_of(value: Any) -> npt.NDArray[Any]:
    if isinstance(value, (list, tuple)) and any(isinstance(v, Tensor) for v in value):
        for v in value:
            if isinstance(v, Tensor) and v.is_traced:
                raise trace_error("a list of tensors made into an array", "use dl.stack")
        return np.stack([np.asarray(v) for v in value])
    detach = getattr(value, "detach", None)  # a PyTorch tensor that requires grad refuses __array__
    if detach is not None:
        value = detach().cpu()
        if "bfloat16" in str(value.dtype):
            value = value.float()
    return np.asarray(value)


def apply(op: str, inputs: Sequence[Tensor], attrs: Mapping[str, Any] = _NO_ATTRS) -> list[Tensor]:
    """An op of docs/ops.md: into the graph while tracing, else computed now."""
    active = trace.current()
    if active is not None:
        ids = active.emit(op, [active.value_of(t) for t in inputs], attrs)
        return [Tensor(None, active, i) for i in ids]
    try:
        return [Tensor(core) for core in _core.run_op(op, [t.core for t in inputs], attrs)]
    except TraceError:
        raise _left_its_trace() from None


def _left_its_trace() -> TraceError:
    return trace_error("a computation outside its function", "return it from the traced function as an output")


def apply1(op: str, inputs: Sequence[Tensor], attrs: Mapping[str, Any] = _NO_ATTRS) -> Tensor:
    return apply(op, inputs, attrs)[0]


def unary(op: str, x: TensorLike) -> Tensor:
    return apply(op, (as_tensor(x),))[0]


def cast_to(x: Tensor, to: DType) -> Tensor:
    return x if x.dtype is to else apply("cast", (x,), {"dtype": to.code})[0]


def operands(values: Sequence[TensorLike], least: DType | None = None) -> list[Tensor]:
    """The operands as tensors of one dtype: Python numbers are weak. `least`: instead of integers, for division."""
    scalars = [v for v in values if type(v) in (bool, int, float)]
    tensors = [None if type(v) in (bool, int, float) else as_tensor(v) for v in values]
    to = promote([(t.dtype, len(t.shape)) for t in tensors if t is not None], cast(Sequence[Scalar], scalars))
    if least is not None and not to.is_float and least.is_float:
        to = least
    return [_scalar(cast(Scalar, v), to) if t is None else cast_to(t, to) for t, v in zip(tensors, values, strict=True)]


def _scalar(value: Scalar, to: DType) -> Tensor:
    return apply("full", (), {"value": float(value), "shape": (), "dtype": to.code})[0]


def binary(op: str, a: TensorLike, b: TensorLike) -> Tensor:
    return apply(op, operands((a, b)))[0]


# The functions are written in terms of Tensor, whose methods call them.
from dlcore import elementwise, indexing, linalg, reductions, shaping  # noqa: E402
