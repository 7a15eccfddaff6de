"""Matrix products: matmul, and einsum as reshapes around one matmul for each pair of operands."""

from __future__ import annotations

import math
from collections.abc import Sequence

from dlcore.creation import eye
from dlcore.shaping import reshape, transpose
from dlcore.tensor import Tensor, TensorLike, apply1, as_tensor, operands


def matmul(a: TensorLike, b: TensorLike) -> Tensor:
    """NumPy's matmul: leading axes broadcast; a vector is a row on the left, a column on the right."""
    x, y = operands((a, b))
    if not x.ndim or not y.ndim:
        raise ValueError(f"[matmul] needs at least one dimension each, got {x.shape} @ {y.shape}; use * for scalars")
    row, column = x.ndim == 1, y.ndim == 1
    inner = y.shape[0] if column else y.shape[-2]
    if x.shape[-1] != inner:
        raise ValueError(f"[matmul] inner sizes differ: {x.shape} @ {y.shape}")
    if not x.dtype.is_float:
        raise TypeError(f"[matmul] takes floats, got {x.dtype}; cast with .astype")
    if row:
        x = reshape(x, (1, -1) if x.size else (1, 0))
    if column:
        y = reshape(y, (y.shape[0], 1))
    product = apply1("matmul", (x, y), {"transpose_a": False, "transpose_b": False})
    if row and column:
        return reshape(product, ())
    if row:
        return reshape(product, (*product.shape[:-2], product.shape[-1]))
    return reshape(product, product.shape[:-1]) if column else product


def dot(a: TensorLike, b: TensorLike) -> Tensor:
    """The inner product of two vectors."""
    x, y = as_tensor(a), as_tensor(b)
    if x.ndim != 1 or y.ndim != 1:
        raise ValueError(f"[dot] takes two vectors, got {x.shape} and {y.shape}")
    return matmul(x, y)


def outer(a: TensorLike, b: TensorLike) -> Tensor:
    """[n, m] of all products of two vectors."""
    return reshape(as_tensor(a), (-1, 1)) * reshape(as_tensor(b), (1, -1))


def einsum(equation: str, *tensors: TensorLike) -> Tensor:
    """Sums of products by letters, as `einsum("bhqd,bhkd->bhqk", q, k)`; operands are joined from left to right.

    "..." is not supported. ValueError names a letter whose sizes differ.
    """
    if not isinstance(equation, str):
        raise TypeError(f"[einsum] takes an equation such as 'ij,jk->ik' first, got {type(equation).__name__}")
    inputs, result = _parse(equation, [as_tensor(t) for t in tensors])
    values = operands(list(tensors))
    sizes: dict[str, int] = {}
    for letters, value in zip(inputs, values, strict=True):
        for letter, size in zip(letters, value.shape, strict=True):
            if sizes.setdefault(letter, size) != size:
                raise ValueError(f"[einsum] '{letter}' in '{equation}' is both {sizes[letter]} and {size}")
    letters, value = _diagonal(inputs[0], values[0])
    for i in range(1, len(values)):
        later = set(result).union(*inputs[i + 1 :])
        other, right = _diagonal(inputs[i], values[i])
        letters, value = _pair(letters, value, other, right, later, sizes)
    letters, value = _sum_out(letters, value, set(result))
    return transpose(value, [letters.index(c) for c in result])


def _parse(equation: str, tensors: Sequence[Tensor]) -> tuple[list[str], str]:
    text = equation.replace(" ", "")
    left, arrow, result = text.partition("->")
    inputs = left.split(",")
    if "." in text:
        raise ValueError(f"[einsum] '...' is not supported, in '{equation}'; name the axes")
    if not arrow:
        result = "".join(sorted(c for c in set(left) - {","} if left.count(c) == 1))
    if len(inputs) != len(tensors):
        raise ValueError(f"[einsum] '{equation}' names {len(inputs)} operands, got {len(tensors)}")
    for letters, tensor in zip(inputs, tensors, strict=True):
        if len(letters) != tensor.ndim:
            raise ValueError(
                f"[einsum] '{letters}' in '{equation}' has {len(letters)} axes, the operand {tensor.shape}"
            )
    unknown = set(result) - set(left)
    if unknown or len(set(result)) != len(result):
        raise ValueError(f"[einsum] the result '{result}' of '{equation}' must name axes of the operands, each once")
    return inputs, result


def _diagonal(letters: str, value: Tensor) -> tuple[str, Tensor]:
    """Repeated letters of one operand become one axis, its diagonal."""
    for letter in dict.fromkeys(letters):
        while letters.count(letter) > 1:
            last = letters.rindex(letter)
            first = letters.index(letter)
            n = value.shape[first]
            shape = [n if i in (first, last) else 1 for i in range(len(letters))]
            value = (value * reshape(eye(n, dtype=value.dtype), shape)).sum(last)
            letters = letters[:last] + letters[last + 1 :]
    return letters, value


def _sum_out(letters: str, value: Tensor, keep: set[str]) -> tuple[str, Tensor]:
    axes = [i for i, c in enumerate(letters) if c not in keep]
    return "".join(c for c in letters if c in keep), value.sum(axes) if axes else value


def _pair(a: str, x: Tensor, b: str, y: Tensor, later: set[str], sizes: dict[str, int]) -> tuple[str, Tensor]:
    """One matmul over [batch, rows, inner] and [batch, inner, columns]."""
    a, x = _sum_out(a, x, later | set(b))
    b, y = _sum_out(b, y, later | set(a))
    batch = [c for c in a if c in b and c in later]
    inner = [c for c in a if c in b and c not in later]
    rows, columns = [c for c in a if c not in b], [c for c in b if c not in a]

    def arrange(letters: str, value: Tensor, *groups: list[str]) -> Tensor:
        ordered = transpose(value, [letters.index(c) for g in groups for c in g])
        return reshape(ordered, [sizes[c] for c in groups[0]] + [math.prod(sizes[c] for c in g) for g in groups[1:]])

    product = matmul(arrange(a, x, batch, rows, inner), arrange(b, y, batch, inner, columns))
    letters = "".join([*batch, *rows, *columns])
    return letters, reshape(product, [sizes[c] for c in letters])
