"""Losses as modules: what `nn.functional` computes, with its options kept."""

from __future__ import annotations

from typing import Any

from dlcore.nn import losses
from dlcore.nn.module import Module
from dlcore.tensor import Tensor, TensorLike
from dlcore.variable import Buffer


class Loss(Module):
    """Base of losses: `reduction` is "mean", "sum" or "none"."""

    def __init__(self, reduction: str = "mean") -> None:
        if reduction not in ("mean", "sum", "none", "batchmean"):
            raise ValueError(f"reduction must be 'mean', 'sum' or 'none', got {reduction!r}")
        self.reduction = reduction

    def extra_repr(self) -> str:
        return f"reduction={self.reduction!r}"


def _buffer(value: TensorLike | None) -> Buffer | None:
    return None if value is None else Buffer(value)


class CrossEntropyLoss(Loss):
    """Of logits (N, C, …) and class labels (N, …) or probabilities."""

    def __init__(
        self, weight: TensorLike | None = None, ignore_index: int = -100, reduction: str = "mean",
        label_smoothing: float = 0.0,
    ) -> None:  # fmt: skip
        super().__init__(reduction)
        if not 0.0 <= label_smoothing <= 1.0:
            raise ValueError(f"label_smoothing must be between 0 and 1, got {label_smoothing}")
        self.weight = _buffer(weight)
        self.ignore_index, self.label_smoothing = ignore_index, label_smoothing

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return losses.cross_entropy(x, y, self.weight, self.reduction, self.ignore_index, self.label_smoothing)


class NLLLoss(Loss):
    """Of log-probabilities (N, C, …) and class labels (N, …)."""

    def __init__(self, weight: TensorLike | None = None, ignore_index: int = -100, reduction: str = "mean") -> None:
        super().__init__(reduction)
        self.weight = _buffer(weight)
        self.ignore_index = ignore_index

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return losses.nll_loss(x, y, self.weight, self.reduction, self.ignore_index)


class BCELoss(Loss):
    """Of probabilities."""

    def __init__(self, weight: TensorLike | None = None, reduction: str = "mean") -> None:
        super().__init__(reduction)
        self.weight = _buffer(weight)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return losses.binary_cross_entropy(x, y, self.weight, self.reduction)


class BCEWithLogitsLoss(Loss):
    """Of logits."""

    def __init__(
        self, weight: TensorLike | None = None, reduction: str = "mean", pos_weight: TensorLike | None = None
    ) -> None:
        super().__init__(reduction)
        self.weight, self.pos_weight = _buffer(weight), _buffer(pos_weight)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return losses.binary_cross_entropy_with_logits(x, y, self.weight, self.reduction, self.pos_weight)


class MSELoss(Loss):
    """The mean squared difference."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return losses.mse_loss(x, y, self.reduction)


class L1Loss(Loss):
    """The mean absolute difference."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return losses.l1_loss(x, y, self.reduction)


class SmoothL1Loss(Loss):
    """Squared near 0, absolute beyond beta."""

    def __init__(self, reduction: str = "mean", beta: float = 1.0) -> None:
        super().__init__(reduction)
        self.beta = beta

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return losses.smooth_l1_loss(x, y, self.reduction, self.beta)


class HuberLoss(Loss):
    """Squared near 0, absolute beyond delta, times delta."""

    def __init__(self, reduction: str = "mean", delta: float = 1.0) -> None:
        super().__init__(reduction)
        self.delta = delta

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return losses.huber_loss(x, y, self.reduction, self.delta)


class KLDivLoss(Loss):
    """Of log-probabilities and probabilities (logarithms with log_target)."""

    def __init__(self, reduction: str = "mean", log_target: bool = False) -> None:
        super().__init__(reduction)
        self.log_target = log_target

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return losses.kl_div(x, y, self.reduction, self.log_target)


class CosineEmbeddingLoss(Loss):
    """Pulls pairs with y = 1 together and pushes pairs with y = -1 apart by angle."""

    def __init__(self, margin: float = 0.0, reduction: str = "mean") -> None:
        super().__init__(reduction)
        self.margin = margin

    def forward(self, a: Tensor, b: Tensor, y: Tensor) -> Tensor:
        return losses.cosine_embedding_loss(a, b, y, self.margin, self.reduction)


class TripletMarginLoss(Loss):
    """Wants the anchor nearer to the positive than to the negative, by a margin."""

    def __init__(self, margin: float = 1.0, p: float = 2.0, eps: float = 1e-6, reduction: str = "mean") -> None:
        super().__init__(reduction)
        self.options: dict[str, Any] = {"margin": margin, "p": p, "eps": eps}

    def forward(self, anchor: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
        return losses.triplet_margin_loss(anchor, positive, negative, reduction=self.reduction, **self.options)


class CTCLoss(Loss):
    """Of log-probabilities (T, N, C), labels, and how many steps and labels each row has."""

    def __init__(self, blank: int = 0, reduction: str = "mean", zero_infinity: bool = False) -> None:
        super().__init__(reduction)
        self.blank, self.zero_infinity = blank, zero_infinity

    def forward(self, log_probs: Tensor, targets: Tensor, input_lengths: Any, target_lengths: Any) -> Tensor:
        return losses.ctc_loss(
            log_probs, targets, input_lengths, target_lengths, self.blank, self.reduction, self.zero_infinity
        )
