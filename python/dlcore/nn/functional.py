"""Layers and losses as functions of tensors: `nn.functional`."""

from __future__ import annotations

import math
from collections.abc import Sequence

from dlcore import dtype, random, trace
from dlcore.creation import arange, full
from dlcore.elementwise import (
    _as_float,
    expm1,
    maximum,
    relu,
    rsqrt,
    sigmoid,
    silu,
    stop_gradient,
    tanh,
    where,
)  # fmt: skip
from dlcore.linalg import matmul
from dlcore.nn.convolution import (
    adaptive_avg_pool1d,
    adaptive_avg_pool2d,
    adaptive_max_pool2d,
    avg_pool1d,
    avg_pool2d,
    conv1d,
    conv2d,
    conv3d,
    conv_transpose1d,
    conv_transpose2d,
    interpolate,
    max_pool1d,
    max_pool2d,
    pixel_shuffle,
)  # fmt: skip
from dlcore.nn.losses import (
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    cosine_embedding_loss,
    cosine_similarity,
    cross_entropy,
    ctc_loss,
    huber_loss,
    kl_div,
    l1_loss,
    mse_loss,
    nll_loss,
    smooth_l1_loss,
    triplet_margin_loss,
)  # fmt: skip
from dlcore.reductions import log_softmax, norm, softmax
from dlcore.shaping import broadcast_to, take
from dlcore.tensor import Tensor, TensorLike, apply, apply1, as_tensor, cast_to, operands

__all__ = [
    "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_max_pool2d", "avg_pool1d", "avg_pool2d", "batch_norm",
    "binary_cross_entropy", "binary_cross_entropy_with_logits", "conv1d", "conv2d", "conv3d", "conv_transpose1d",
    "conv_transpose2d", "cosine_embedding_loss", "cosine_similarity", "cross_entropy", "ctc_loss", "dropout", "elu",
    "embedding", "gelu", "group_norm", "hardsigmoid", "hardswish", "hardtanh", "huber_loss", "interpolate", "kl_div",
    "l1_loss", "layer_norm", "leaky_relu", "linear", "log_softmax", "logsigmoid", "max_pool1d", "max_pool2d", "mish",
    "mse_loss", "nll_loss", "normalize", "pixel_shuffle", "prelu", "relu", "relu6", "rms_norm",
    "scaled_dot_product_attention", "selu", "sigmoid", "silu", "smooth_l1_loss", "softmax", "softplus", "softsign",
    "tanh", "triplet_margin_loss",
]  # fmt: skip


# Products and tables.
def linear(x: TensorLike, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x Wᵀ + b over the last axis; weight (out, in)."""
    a, w = operands((x, weight))
    if not a.ndim or a.shape[-1] != w.shape[1]:
        raise ValueError(f"[linear] expected (…, {w.shape[1]}) for a weight (out, in) of {w.shape}, got {a.shape}")
    flat = a if a.ndim == 2 else a.reshape(math.prod(a.shape[:-1]), a.shape[-1])
    y = apply1("matmul", (flat, w), {"transpose_a": False, "transpose_b": True})
    if bias is not None:
        y = y + bias
    return y if a.ndim == 2 else y.reshape(*a.shape[:-1], w.shape[0])


def row_mask(rows: int, zero: int) -> Tensor:
    """[rows, 1] of ones but for one row of zero."""
    return (arange(rows) != zero).astype("float32").reshape(rows, 1)


def embedding(indices: TensorLike, weight: Tensor, padding_idx: int | None = None) -> Tensor:
    """Rows of the table; row padding_idx gets no gradient."""
    table = weight
    if padding_idx is not None and trace.current() is not None:
        keep = arange(weight.shape[0]).reshape(-1, 1) != padding_idx
        table = where(keep, weight, stop_gradient(weight))
    return take(table, indices)


# Activations.
def gelu(x: TensorLike, approximate: str = "none") -> Tensor:
    """x·Φ(x) by erf, or with approximate="tanh" by tanh."""
    if approximate not in ("none", "tanh"):
        raise ValueError(f"approximate must be 'none' or 'tanh', got {approximate!r}")
    return apply1("gelu" if approximate == "none" else "gelu_tanh", (_as_float(x),))


def relu6(x: TensorLike) -> Tensor:
    return hardtanh(x, 0.0, 6.0)


def leaky_relu(x: TensorLike, negative_slope: float = 0.01) -> Tensor:
    t = as_tensor(x)
    return where(t > 0, t, t * negative_slope)


def prelu(x: TensorLike, weight: Tensor) -> Tensor:
    """Slope `weight` below 0: one for all, or one a channel (axis 1)."""
    t, slope = operands((x, weight))
    if slope.size > 1 and t.ndim > 1:
        slope = slope.reshape(*([1, -1] + [1] * (t.ndim - 2)))
    return where(t > 0, t, t * slope)


def elu(x: TensorLike, alpha: float = 1.0) -> Tensor:
    t = as_tensor(x)
    positive = t > 0
    return where(positive, t, expm1(where(positive, 0.0, t)) * alpha)  # what is not taken stays finite


def selu(x: TensorLike) -> Tensor:
    return elu(x, 1.6732632423543772) * 1.0507009873554805


def softplus(x: TensorLike, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """log(1 + exp(beta·x)) / beta, x itself where beta·x is beyond the threshold."""
    t = _as_float(x)
    if beta == 1.0 and threshold == 20.0:
        return apply1("softplus", (t,))
    scaled = t * beta
    return where(scaled > threshold, t, apply1("softplus", (scaled,)) / beta)


def mish(x: TensorLike) -> Tensor:
    t = _as_float(x)
    return t * tanh(apply1("softplus", (t,)))


def logsigmoid(x: TensorLike) -> Tensor:
    t = _as_float(x)
    return -apply1("softplus", (-t,))


def softsign(x: TensorLike) -> Tensor:
    t = as_tensor(x)
    return t / (abs(t) + 1.0)


def hardtanh(x: TensorLike, min_val: float = -1.0, max_val: float = 1.0) -> Tensor:
    """x limited to [min_val, max_val]; the slope at a bound is 0."""
    t = as_tensor(x)
    return where(t <= min_val, min_val, where(t >= max_val, max_val, t))


def hardsigmoid(x: TensorLike) -> Tensor:
    return relu6(as_tensor(x) + 3.0) / 6.0


def hardswish(x: TensorLike) -> Tensor:
    t = as_tensor(x)
    return t * hardsigmoid(t)


# Noise.
def dropout(x: TensorLike, p: float = 0.5, training: bool | None = None) -> Tensor:
    """Zeros with probability p, the rest scaled by 1/(1-p); x unchanged outside training."""
    t = as_tensor(x)
    if not 0.0 <= p <= 1.0:
        raise ValueError(f"[dropout] p must be between 0 and 1, got {p}")
    if p == 0.0 or not (trace.is_training() if training is None else training):
        return t
    if p == 1.0:
        return t * 0.0
    rng, site = random.source()
    return apply1("dropout", (t, rng), {"p": float(p), "site": site})


# Norms.
def layer_norm(
    x: TensorLike, shape: int | Sequence[int], weight: Tensor | None = None, bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:  # fmt: skip
    """Zero mean and unit variance over the last axes, those of `shape`, then weight and bias."""
    t = _as_float(x)
    dims = (shape,) if isinstance(shape, int) else tuple(shape)
    if t.shape[t.ndim - len(dims) :] != dims:
        raise ValueError(f"[layer_norm] expected (…, {', '.join(map(str, dims))}), got {t.shape}")
    scale = full(dims, 1.0, t.dtype) if weight is None else weight
    shift = full(dims, 0.0, t.dtype) if bias is None else bias
    return apply("layer_norm", operands((t, scale, shift)), {"dims": len(dims), "eps": float(eps)})[0]


def group_norm(
    x: TensorLike, groups: int, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    """Zero mean and unit variance for each row and group of channels (axis 1), then weight and bias a channel."""
    t = _as_float(x)
    if t.ndim < 2:
        raise ValueError(f"[group_norm] expected (N, C, …), got {t.shape}")
    channels = t.shape[1]
    if groups < 1 or channels % groups:
        raise ValueError(f"[group_norm] {channels} channels do not fall into {groups} equal groups")
    scale = full((channels,), 1.0, t.dtype) if weight is None else weight
    shift = full((channels,), 0.0, t.dtype) if bias is None else bias
    return apply("group_norm", operands((t, scale, shift)), {"groups": groups, "eps": float(eps)})[0]


def rms_norm(
    x: TensorLike, shape: int | Sequence[int], weight: Tensor | None = None, eps: float | None = None
) -> Tensor:
    """x over the root of its mean square along the last axes, then weight (Zhang and Sennrich, 2019).

    x: (…, *shape); weight: shape. eps is the dtype's machine epsilon where none is given, as in PyTorch."""
    t = _as_float(x)
    dims = (shape,) if isinstance(shape, int) else tuple(shape)
    if t.shape[t.ndim - len(dims) :] != dims:
        raise ValueError(f"[rms_norm] expected (…, {', '.join(map(str, dims))}), got {t.shape}")
    if eps is None:
        eps = 2.0**-52 if t.dtype is dtype.float64 else 2.0**-23
    scale = full(dims, 1.0, t.dtype) if weight is None else weight
    return apply("rms_norm", operands((t, scale)), {"dims": len(dims), "eps": float(eps)})[0]


def batch_norm(
    x: TensorLike, mean: Tensor, var: Tensor, weight: Tensor | None = None, bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:  # fmt: skip
    """Channels (axis 1) scaled and shifted by given statistics."""
    t = as_tensor(x)
    shape = (1, -1) + (1,) * (t.ndim - 2)
    scale = rsqrt(var + eps)
    if weight is not None:
        scale = scale * weight
    shift = -mean * scale if bias is None else bias - mean * scale
    return t * scale.reshape(shape) + shift.reshape(shape)


def normalize(x: TensorLike, p: float = 2.0, axis: int = 1, eps: float = 1e-12) -> Tensor:
    """x over its p-norm along the axis, the norm taken to be at least eps."""
    t = as_tensor(x)
    return t / maximum(norm(t, axis, p, keepdims=True), eps)


# Attention.
def scaled_dot_product_attention(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, dropout_p: float = 0.0,
    is_causal: bool = False, scale: float | None = None,
) -> Tensor:  # fmt: skip
    """softmax(q kᵀ·scale + mask) v: (…, T, D), (…, S, D), (…, S, E) → (…, T, E); scale is 1/√D by default.

    attn_mask broadcasts to (…, T, S): booleans that say which keys are seen, or floats that are added. With is_causal
    query i sees keys up to i, as in PyTorch. dropout_p applies in training only.
    """
    q, k, v = operands((query, key, value))
    if q.ndim < 2 or q.shape[-1] == 0:
        raise ValueError(f"[attention] expected queries (…, T, D) with D of at least 1, got {q.shape}")
    factor = 1.0 / math.sqrt(q.shape[-1]) if scale is None else float(scale)
    drop = dropout_p if trace.is_training() else 0.0
    if is_causal and attn_mask is not None:
        raise ValueError("[attention] give attn_mask or is_causal, not both")
    t, s = q.shape[-2], k.shape[-2]
    same = q.shape[:-2] == k.shape[:-2] and q.shape[-1] == k.shape[-1] and k.shape == v.shape
    fits = attn_mask is None or as_tensor(attn_mask).ndim <= 2 or q.ndim <= 4
    if not drop and same and fits and q.ndim >= 3 and (not is_causal or t == s):
        lead = q.shape[:-2]
        four = (1,) * (4 - q.ndim) + lead if q.ndim <= 4 else (math.prod(lead[:-1]), lead[-1])
        inputs = [x.reshape(*four, *x.shape[-2:]) for x in (q, k, v)]
        if attn_mask is not None:
            inputs.append(_added(attn_mask, q, s))
        return apply("attention", inputs, {"scale": factor, "causal": is_causal})[0].reshape(*lead, t, v.shape[-1])
    return matmul(dropout(attention_weights(q, k, attn_mask, is_causal, factor), drop), v)


def _added(mask: Tensor, q: Tensor, keys: int) -> Tensor:
    """The mask as what is added to the scores, with four axes of which the last has all keys."""
    mask = as_tensor(mask)
    if mask.dtype is dtype.bool_:
        mask = where(mask, 0.0, -math.inf)
    mask = cast_to(mask, q.dtype).reshape(*(1,) * (4 - mask.ndim), *mask.shape)
    return mask if mask.shape[-1] == keys else broadcast_to(mask, (*mask.shape[:-1], keys))


def attention_weights(q: Tensor, k: Tensor, mask: Tensor | None, is_causal: bool, scale: float) -> Tensor:
    """softmax(q kᵀ·scale + mask): how much each query takes of each key."""
    scores = apply1("matmul", (q, k), {"transpose_a": False, "transpose_b": True}) * scale
    if is_causal:
        mask = arange(q.shape[-2]).reshape(-1, 1) >= arange(k.shape[-2])
    if mask is not None:
        mask = as_tensor(mask)
        seen = mask.dtype is dtype.bool_
        scores = where(mask, scores, -math.inf) if seen else scores + cast_to(mask, scores.dtype)
    return softmax(scores)
