"""Layers that are a product of matrices."""

from __future__ import annotations

from typing import Any

from dlcore.creation import zeros
from dlcore.nn import functional as F
from dlcore.nn import init
from dlcore.nn.module import Module
from dlcore.tensor import Tensor, as_tensor
from dlcore.variable import Parameter


class Linear(Module):
    """y = x Wᵀ + b: (…, in_features) → (…, out_features)."""

    def __init__(self, in_features: int, out_features: int, bias: bool = True, dtype: Any = "float32") -> None:
        self.in_features, self.out_features = in_features, out_features
        self.weight = Parameter(zeros((out_features, in_features), dtype))
        self.bias = Parameter(zeros(out_features, dtype)) if bias else None
        init.default_(self.weight, self.bias)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias)

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"


class Bilinear(Module):
    """y = x1ᵀ W x2 + b for each output feature."""

    def __init__(self, in1_features: int, in2_features: int, out_features: int, bias: bool = True) -> None:
        self.weight = Parameter(zeros((out_features, in1_features, in2_features)))
        self.bias = Parameter(zeros(out_features)) if bias else None
        bound = in1_features**-0.5
        init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            init.uniform_(self.bias, -bound, bound)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        o, i, j = self.weight.shape
        left = (as_tensor(a).reshape(-1, i) @ self.weight.transpose(1, 0, 2).reshape(i, o * j)).reshape(-1, o, j)
        y = (left * b.reshape(-1, 1, j)).sum(-1).reshape(*a.shape[:-1], o)
        return y if self.bias is None else y + self.bias
