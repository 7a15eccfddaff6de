"""Losses as functions, as in torch.nn.functional; `reduction` is "mean", "sum" or "none"."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from dlcore import dtype
from dlcore.elementwise import (
    _as_float,
    abs,
    clip,
    exp,
    log,
    log1p,
    maximum,
    relu,
    sqrt,
    square,
    stop_gradient,
    where,
)
from dlcore.reductions import log_softmax, mean, norm, sum
from dlcore.shaping import moveaxis, take, take_along_axis
from dlcore.tensor import Tensor, TensorLike, apply, apply1, as_tensor, cast_to, operands


def _reduced(loss: Tensor, reduction: str) -> Tensor:
    if reduction == "mean":
        return mean(loss)
    if reduction == "sum":
        return sum(loss)
    if reduction != "none":
        raise ValueError(f"reduction must be 'mean', 'sum' or 'none', got {reduction!r}")
    return loss


def _same(name: str, x: TensorLike, y: TensorLike) -> tuple[Tensor, Tensor]:
    a, b = _as_float(x), as_tensor(y)
    if a.shape != b.shape:
        raise ValueError(f"[{name}] prediction {a.shape} and target {b.shape} differ in shape")
    return a, cast_to(b, a.dtype)


def mse_loss(x: TensorLike, y: TensorLike, reduction: str = "mean") -> Tensor:
    a, b = _same("mse_loss", x, y)
    return _reduced(square(a - b), reduction)


def l1_loss(x: TensorLike, y: TensorLike, reduction: str = "mean") -> Tensor:
    a, b = _same("l1_loss", x, y)
    return _reduced(abs(a - b), reduction)


def huber_loss(x: TensorLike, y: TensorLike, reduction: str = "mean", delta: float = 1.0) -> Tensor:
    """½d² where |d| < delta, else delta·(|d| - ½delta)."""
    a, b = _same("huber_loss", x, y)
    if delta <= 0:
        raise ValueError(f"[huber_loss] delta must be positive, got {delta}")
    d = abs(a - b)
    return _reduced(where(d < delta, d * d * 0.5, (d - 0.5 * delta) * delta), reduction)


def smooth_l1_loss(x: TensorLike, y: TensorLike, reduction: str = "mean", beta: float = 1.0) -> Tensor:
    """½d²/beta where |d| < beta, else |d| - ½beta."""
    return l1_loss(x, y, reduction) if beta == 0 else huber_loss(x, y, reduction, beta) / beta


def _entropy(log_p: Tensor, log_q: Tensor, t: Tensor) -> Tensor:
    return -(t * log_p + (1.0 - t) * log_q)


def binary_cross_entropy(
    x: TensorLike, y: TensorLike, weight: TensorLike | None = None, reduction: str = "mean"
) -> Tensor:
    """Of probabilities. As in PyTorch, logarithms are at least -100 and the slope is (p - y) / max(p(1 - p), 1e-12)."""
    p, t = _same("binary_cross_entropy", x, y)
    end = p * (1.0 - p) < 1e-12  # log's slope is of no use there: p is fixed in the value, a parabola makes the slope
    inner, fixed = where(end, 0.5, p), stop_gradient(p)
    bend = square(p - stop_gradient(t)) * 0.5e12
    at_end = _entropy(maximum(log(fixed), -100.0), maximum(log1p(-fixed), -100.0), t) + (bend - stop_gradient(bend))
    loss = where(end, at_end, _entropy(log(inner), log1p(-inner), t))
    return _reduced(loss if weight is None else loss * weight, reduction)


def binary_cross_entropy_with_logits(
    x: TensorLike, y: TensorLike, weight: TensorLike | None = None, reduction: str = "mean",
    pos_weight: TensorLike | None = None,
) -> Tensor:  # fmt: skip
    """Of logits, without overflow; pos_weight multiplies the part of the positive targets."""
    z, t = _same("binary_cross_entropy_with_logits", x, y)
    if pos_weight is None:
        loss = relu(z) - z * t + apply1("softplus", (where(z > 0.0, -z, z),))  # -|z|, with a slope at 0
    else:
        loss = (1.0 - t) * z + ((as_tensor(pos_weight) - 1.0) * t + 1.0) * apply1("softplus", (-z,))
    return _reduced(loss if weight is None else loss * weight, reduction)


def _rows(name: str, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Logits as [rows, classes] and labels as [rows], int64."""
    if x.ndim == 1:
        x, y = x.reshape(1, -1), y.reshape(*(y.shape or (1,)))
    if y.shape != (x.shape[0], *x.shape[2:]):
        raise ValueError(f"[{name}] labels of shape {y.shape} do not fit logits of shape {x.shape} (N, classes, …)")
    if x.ndim > 2:
        x = moveaxis(x, 1, -1)
        x, y = x.reshape(math.prod(x.shape[:-1]), x.shape[-1]), y.reshape(math.prod(y.shape))
    return x, cast_to(y, dtype.int64)


def cross_entropy(
    x: TensorLike, y: TensorLike, weight: TensorLike | None = None, reduction: str = "mean", ignore_index: int = -100,
    label_smoothing: float = 0.0,
) -> Tensor:  # fmt: skip
    """Of logits (N, C, …) and class labels (N, …), or probabilities of the logits' shape.

    "mean" divides by the weights of the labels that are not ignored. IndexError for a label outside [0, C).
    """
    logits, target = _as_float(x), as_tensor(y)
    if target.dtype.is_float:
        return _soft_cross_entropy(logits, target, weight, reduction, label_smoothing)
    shape = target.shape
    rows, labels = _rows("cross_entropy", logits, target)
    if weight is not None:
        logp = log_softmax(rows)
        loss, scale = _weighted_nll(logp, labels, as_tensor(weight), ignore_index)
        if label_smoothing:
            kept = cast_to(labels != ignore_index, logp.dtype)
            spread = -sum(logp * as_tensor(weight), -1) / logp.shape[-1] * kept
            loss = loss * (1.0 - label_smoothing) + spread * label_smoothing
        return _averaged(loss, scale, reduction, shape)
    attrs = {"label_smoothing": float(label_smoothing), "ignore_index": ignore_index}
    loss = apply("cross_entropy", (rows, labels), attrs)[0]
    if reduction == "mean":
        return sum(loss) / sum(cast_to(labels != ignore_index, loss.dtype))
    return _averaged(loss, loss, reduction, shape)


def _soft_cross_entropy(
    logits: Tensor, target: Tensor, weight: TensorLike | None, reduction: str, smoothing: float
) -> Tensor:
    if logits.shape != target.shape:
        raise ValueError(
            f"[cross_entropy] probabilities of shape {target.shape} do not fit logits of shape {logits.shape}; "
            "class labels must be integers"
        )
    axis = 1 if logits.ndim > 1 else 0
    classes = logits.shape[axis]
    q = cast_to(target, logits.dtype)
    if smoothing:
        q = q * (1.0 - smoothing) + smoothing / classes
    terms = log_softmax(logits, axis) * q
    if weight is not None:
        terms = terms * as_tensor(weight).reshape(*([-1] + [1] * (logits.ndim - 1 - axis)))
    loss = -sum(terms, axis)
    return sum(loss) / float(loss.size) if reduction == "mean" else _reduced(loss, reduction)


def _weighted_nll(logp: Tensor, labels: Tensor, weight: Tensor | None, ignore_index: int) -> tuple[Tensor, Tensor]:
    """(loss, weight) of each row, both 0 for an ignored one."""
    seen = labels != ignore_index
    index = where(seen, labels, 0)
    scale = cast_to(seen, logp.dtype)
    if weight is not None:
        scale = scale * take(cast_to(weight, logp.dtype), index)
    picked = take_along_axis(logp, index.reshape(-1, 1), -1).reshape(-1)
    return -picked * scale, scale


def _averaged(loss: Tensor, scale: Tensor, reduction: str, shape: tuple[int, ...]) -> Tensor:
    if reduction == "mean":
        return sum(loss) / sum(scale)
    return _reduced(loss.reshape(shape), reduction)


def nll_loss(
    x: TensorLike, y: TensorLike, weight: TensorLike | None = None, reduction: str = "mean", ignore_index: int = -100
) -> Tensor:
    """Of log-probabilities (N, C, …) and class labels (N, …)."""
    logp, target = _as_float(x), as_tensor(y)
    rows, labels = _rows("nll_loss", logp, target)
    loss, scale = _weighted_nll(rows, labels, None if weight is None else as_tensor(weight), ignore_index)
    return _averaged(loss, scale, reduction, target.shape)


def kl_div(x: TensorLike, y: TensorLike, reduction: str = "mean", log_target: bool = False) -> Tensor:
    """target·(log target - x), x being log-probabilities; reduction may also be "batchmean"."""
    a, t = _same("kl_div", x, y)
    if log_target:
        loss = exp(t) * (t - a)
    else:
        loss = where(t > 0.0, t * (log(where(t > 0.0, t, 1.0)) - a), 0.0)
    return sum(loss) / float(a.shape[0]) if reduction == "batchmean" else _reduced(loss, reduction)


def cosine_similarity(x: TensorLike, y: TensorLike, axis: int = 1, eps: float = 1e-8) -> Tensor:
    """The cosine of the angle between vectors along the axis."""
    a, b = operands((x, y))
    lengths = maximum(norm(a, axis), eps) * maximum(norm(b, axis), eps)
    return sum(a * b, axis) / lengths


def cosine_embedding_loss(
    a: TensorLike, b: TensorLike, y: TensorLike, margin: float = 0.0, reduction: str = "mean"
) -> Tensor:
    """1 - cos where y is 1, max(0, cos - margin) where it is -1."""
    x1, x2 = operands((a, b))
    e = 1e-12
    cosine = sum(x1 * x2, -1) / sqrt((sum(x1 * x1, -1) + e) * (sum(x2 * x2, -1) + e))
    target = as_tensor(y)
    return _reduced(where(target == 1, 1.0 - cosine, where(target == -1, clip(cosine - margin, 0.0), 0.0)), reduction)


def triplet_margin_loss(
    anchor: TensorLike, positive: TensorLike, negative: TensorLike, margin: float = 1.0, p: float = 2.0,
    eps: float = 1e-6, reduction: str = "mean",
) -> Tensor:  # fmt: skip
    """max(0, |anchor - positive| - |anchor - negative| + margin), distances by the p-norm."""
    a, b, c = operands((anchor, positive, negative))
    return _reduced(relu(norm(a - b + eps, -1, p) - norm(a - c + eps, -1, p) + margin), reduction)


def ctc_loss(
    log_probs: TensorLike, targets: TensorLike, input_lengths: Any, target_lengths: Any, blank: int = 0,
    reduction: str = "mean", zero_infinity: bool = False,
) -> Tensor:  # fmt: skip
    """Connectionist temporal classification of log-probabilities (T, N, C), or (T, C) of one row.

    targets: labels (N, S), or all rows' labels one after the other. "mean" divides each row's loss by its number of
    labels first. A row that is too short for its labels has an infinite loss; zero_infinity takes 0 for it.
    """
    x, labels = _as_float(log_probs), cast_to(as_tensor(targets), dtype.int64)
    single = x.ndim == 2
    if single:
        x, labels = x.reshape(x.shape[0], 1, x.shape[1]), labels.reshape(1, -1)
    if x.ndim != 3:
        raise ValueError(f"[ctc_loss] expected log-probabilities (T, N, C) or (T, C), got shape {x.shape}")
    if labels.ndim == 1:
        counts = np.asarray(target_lengths, np.int64).reshape(-1)
        if counts.sum() != labels.shape[0]:
            raise ValueError(f"[ctc_loss] {labels.shape[0]} targets for target_lengths that add up to {counts.sum()}")
        steps = np.arange(counts.max(initial=0))
        places = np.minimum(np.cumsum(counts)[:, None] - counts[:, None] + steps, max(0, labels.shape[0] - 1))
        labels = take(labels, places) if labels.shape[0] else labels.reshape(len(counts), 0)
    steps_of, labels_of = (cast_to(as_tensor(n), dtype.int64).reshape(-1) for n in (input_lengths, target_lengths))
    loss = apply1("ctc", (x, labels, steps_of, labels_of), {"blank": blank})
    if zero_infinity:
        loss = where(loss == math.inf, 0.0, loss)
    if reduction == "mean":
        return mean(loss / cast_to(maximum(labels_of, 1), loss.dtype))
    return _reduced(loss.reshape(()) if single else loss, reduction)
