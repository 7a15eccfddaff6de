"""Layers that normalise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from dlcore import trace
from dlcore.creation import full, ones, zeros
from dlcore.nn import functional as F
from dlcore.nn.module import Module
from dlcore.tensor import Tensor, apply, as_tensor
from dlcore.variable import Buffer, Parameter


class _BatchNorm(Module):
    """In training by the batch's mean and variance, which the running ones follow; else by the running ones."""

    ranks: ClassVar[tuple[int, ...]] = ()

    def __init__(
        self, num_features: int, eps: float = 1e-5, momentum: float | None = 0.1, affine: bool = True,
        track_running_stats: bool = True,
    ) -> None:  # fmt: skip
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        self.affine, self.track_running_stats = affine, track_running_stats
        self.weight = Parameter(ones(num_features)) if affine else None
        self.bias = Parameter(zeros(num_features)) if affine else None
        self.running_mean = Buffer(zeros(num_features)) if track_running_stats else None
        self.running_var = Buffer(ones(num_features)) if track_running_stats else None
        self.num_batches_tracked = Buffer(np.asarray(0, np.int64)) if track_running_stats else None

    def forward(self, x: Tensor) -> Tensor:
        x = as_tensor(x)
        if x.ndim not in self.ranks or x.shape[1] != self.num_features:
            ranks = " or ".join(str(r) for r in self.ranks)
            raise ValueError(
                f"[{type(self).__name__}] expected {ranks} dimensions with {self.num_features} channels on axis 1, "
                f"got shape {x.shape}"
            )
        if self.running_mean is not None and self.running_var is not None and not trace.is_training():
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, self.eps)
        n = x.size // self.num_features
        if n < 2:
            raise ValueError(f"[{type(self).__name__}] in training needs more than one value a channel, got {x.shape}")
        weight = full(self.num_features, 1.0, x.dtype) if self.weight is None else self.weight
        bias = full(self.num_features, 0.0, x.dtype) if self.bias is None else self.bias
        y, mean, var = apply("batch_norm", (x, weight, bias), {"axis": 1, "eps": float(self.eps)})
        if trace.is_training():
            self._follow(mean, var * (n / (n - 1)))
        return y

    def _follow(self, mean: Tensor, var: Tensor) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        seen = self.num_batches_tracked + 1
        # Without a momentum: the average of all batches so far.
        part = self.momentum if self.momentum is not None else 1.0 / seen.astype(mean.dtype)
        self.running_mean.assign(self.running_mean * (1.0 - part) + mean.detach() * part)
        self.running_var.assign(self.running_var * (1.0 - part) + var.detach() * part)
        self.num_batches_tracked.assign(seen)

    def extra_repr(self) -> str:
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
            f"track_running_stats={self.track_running_stats}"
        )


class BatchNorm1d(_BatchNorm):
    """Batch normalisation of (N, C) or (N, C, L)."""

    ranks: ClassVar[tuple[int, ...]] = (2, 3)


class BatchNorm2d(_BatchNorm):
    """Batch normalisation of (N, C, H, W)."""

    ranks: ClassVar[tuple[int, ...]] = (4,)


class LayerNorm(Module):
    """Zero mean and unit variance over the last axes, those of normalized_shape."""

    def __init__(
        self, normalized_shape: int | Sequence[int], eps: float = 1e-5, elementwise_affine: bool = True,
        bias: bool = True,
    ) -> None:  # fmt: skip
        self.normalized_shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
        self.eps, self.elementwise_affine = eps, elementwise_affine
        self.weight = Parameter(ones(self.normalized_shape)) if elementwise_affine else None
        self.bias = Parameter(zeros(self.normalized_shape)) if elementwise_affine and bias else None

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"


class GroupNorm(Module):
    """Zero mean and unit variance for each row and group of channels."""

    def __init__(self, num_groups: int, num_channels: int, eps: float = 1e-5, affine: bool = True) -> None:
        if num_groups < 1 or num_channels % num_groups:
            raise ValueError(f"{num_channels} channels do not fall into {num_groups} equal groups")
        self.num_groups, self.num_channels, self.eps, self.affine = num_groups, num_channels, eps, affine
        self.weight = Parameter(ones(num_channels)) if affine else None
        self.bias = Parameter(zeros(num_channels)) if affine else None

    def forward(self, x: Tensor) -> Tensor:
        return F.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return f"{self.num_groups}, {self.num_channels}, eps={self.eps}, affine={self.affine}"


class InstanceNorm2d(Module):
    """Zero mean and unit variance for each image and channel."""

    def __init__(self, num_features: int, eps: float = 1e-5, affine: bool = False) -> None:
        self.num_features, self.eps, self.affine = num_features, eps, affine
        self.weight = Parameter(ones(num_features)) if affine else None
        self.bias = Parameter(zeros(num_features)) if affine else None

    def forward(self, x: Tensor) -> Tensor:
        return F.group_norm(x, self.num_features, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return f"{self.num_features}, eps={self.eps}, affine={self.affine}"


class RMSNorm(Module):
    """x over the root of its mean square along the last axes."""

    def __init__(
        self, normalized_shape: int | Sequence[int], eps: float | None = None, elementwise_affine: bool = True
    ) -> None:
        self.normalized_shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
        self.eps = eps
        self.weight = Parameter(ones(self.normalized_shape)) if elementwise_affine else None

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, self.normalized_shape, self.weight, self.eps)

    def extra_repr(self) -> str:
        return f"{self.normalized_shape}, eps={self.eps}"
