"""Data types: small named objects that compare equal to their names and to NumPy's types, and PyTorch's promotion."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np


class DType:
    """A data type; `dl.float32 == "float32" == np.float32`. `code` is its name in the core ("f32")."""

    __slots__ = ("code", "kind", "name", "numpy", "rank")

    def __init__(self, name: str, code: str, kind: str, rank: int, numpy: np.dtype[Any] | None) -> None:
        self.name = name
        self.code = code
        self.kind = kind  # "bool", "int" or "float"
        self.rank = rank  # orders the types of a kind
        self.numpy = numpy

    def __repr__(self) -> str:
        return f"dlcore.{self.name}"

    def __str__(self) -> str:
        return self.name

    def __hash__(self) -> int:
        return hash(self.name)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, DType):
            return self is other
        if isinstance(other, str):
            return other in (self.name, self.code)
        if self.numpy is None or other is None:  # NumPy takes None for float64
            return False
        try:
            return bool(np.dtype(other) == self.numpy)  # type: ignore[call-overload]
        except TypeError:
            return False

    def __reduce__(self) -> tuple[Any, ...]:
        return as_dtype, (self.name,)

    @property
    def is_float(self) -> bool:
        return self.kind == "float"


bool_ = DType("bool", "bool", "bool", 0, np.dtype(np.bool_))
uint8 = DType("uint8", "u8", "int", 1, np.dtype(np.uint8))
int8 = DType("int8", "i8", "int", 1, np.dtype(np.int8))
int32 = DType("int32", "i32", "int", 2, np.dtype(np.int32))
int64 = DType("int64", "i64", "int", 3, np.dtype(np.int64))
float16 = DType("float16", "f16", "float", 1, np.dtype(np.float16))
bfloat16 = DType("bfloat16", "bf16", "float", 1, None)
float32 = DType("float32", "f32", "float", 2, np.dtype(np.float32))
float64 = DType("float64", "f64", "float", 3, np.dtype(np.float64))

ALL = (bool_, uint8, int8, int32, int64, float16, bfloat16, float32, float64)
BY_CODE = {d.code: d for d in ALL}
_BY_NAME = {d.name: d for d in ALL} | BY_CODE
_KINDS = {"bool": 0, "int": 1, "float": 2}
_PYTHON = {bool: bool_, int: int64, float: float32}


def as_dtype(value: Any) -> DType:
    """A DType from itself, its name ("float32" or "f32"), bool/int/float, or NumPy's type; else TypeError."""
    if isinstance(value, DType):
        return value
    if value is None or isinstance(value, str):
        found = _BY_NAME.get(value or "")
    elif value in _PYTHON:
        found = _PYTHON[value]
    else:
        try:
            found = _BY_NAME.get(np.dtype(value).name)
        except TypeError:
            found = _BY_NAME.get(str(value).rpartition(".")[2])  # torch.float32
    if found is None:
        names = ", ".join(d.name for d in ALL)
        raise TypeError(f"{value!r} is no data type here; expected one of {names}")
    return found


def _join(a: DType, b: DType) -> DType:
    if a is b:
        return a
    if a.kind != b.kind:
        return a if _KINDS[a.kind] > _KINDS[b.kind] else b
    if a.rank != b.rank:
        return a if a.rank > b.rank else b
    return int32 if a.kind == "int" else float32  # uint8 with int8, float16 with bfloat16


def _join_all(types: Iterable[DType]) -> DType | None:
    result: DType | None = None
    for t in types:
        result = t if result is None else _join(result, t)
    return result


def promote(tensors: Sequence[tuple[DType, int]], scalars: Sequence[bool | int | float] = ()) -> DType:
    """PyTorch's promotion of (dtype, ndim) pairs and Python numbers: scalars count only by a higher kind."""
    result = _join_all(t for t, ndim in tensors if ndim)
    for weaker in (_join_all(t for t, ndim in tensors if not ndim), _join_all(_PYTHON[type(s)] for s in scalars)):
        if result is None or (weaker is not None and _KINDS[weaker.kind] > _KINDS[result.kind]):
            result = weaker
    assert result is not None
    return result
