"""Layers that drop values in training."""

from __future__ import annotations

from dlcore import trace
from dlcore.creation import ones
from dlcore.nn import functional as F
from dlcore.nn.module import Module
from dlcore.tensor import Tensor


class Dropout(Module):
    """In training zeros each value with probability p and scales the rest by 1/(1-p)."""

    def __init__(self, p: float = 0.5) -> None:
        if not 0.0 <= p <= 1.0:
            raise ValueError(f"p must be between 0 and 1, got {p}")
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.p)

    def extra_repr(self) -> str:
        return f"p={self.p}"


class Dropout2d(Dropout):
    """Drops whole channels of (N, C, H, W)."""

    def forward(self, x: Tensor) -> Tensor:
        if not trace.is_training() or self.p == 0.0:
            return x
        return x * F.dropout(ones((*x.shape[:2], 1, 1), x.dtype), self.p)
