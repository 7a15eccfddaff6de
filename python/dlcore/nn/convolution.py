"""Convolution, pooling and resizing as functions: images (N, C, H, W), signals (N, C, L), volumes (N, C, D, H, W)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from dlcore.elementwise import _as_float
from dlcore.linalg import matmul
from dlcore.reductions import max as max_of
from dlcore.shaping import concatenate, pad, repeat
from dlcore.tensor import Tensor, TensorLike, apply, apply1, as_tensor, operands

Pair: TypeAlias = "int | tuple[int, int]"


def pair(value: Any, name: str = "size") -> tuple[int, int]:
    """(height, width) from a number or a pair."""
    if isinstance(value, int):
        return (value, value)
    values = tuple(value)
    if len(values) != 2 or not all(isinstance(v, int) for v in values):
        raise ValueError(f"{name} must be an int or a pair of ints, got {value!r}")
    return (values[0], values[1])


def triple(value: Any, name: str = "size") -> tuple[int, int, int]:
    """(depth, height, width) from a number or three."""
    values = (value,) * 3 if isinstance(value, int) else tuple(value)
    if len(values) != 3 or not all(isinstance(v, int) for v in values):
        raise ValueError(f"{name} must be an int or three ints, got {value!r}")
    return values


def single(value: Any) -> Any:
    """A signal's number, out of its tuple; names such as "same" stay."""
    if value is None or isinstance(value, (str, int)):
        return value
    values = tuple(value)
    if len(values) != 1 or not isinstance(values[0], int):
        raise ValueError(f"a size of a signal must be one int, got {value!r}")
    return values[0]


def _sides(padding: Any, kernel: tuple[int, ...], dilation: tuple[int, ...], stride: tuple[int, ...]) -> list[int]:
    """Low and high of each axis: top, bottom, left, right of an image."""
    if padding == "valid":
        return [0, 0] * len(kernel)
    if padding == "same":
        if any(s != 1 for s in stride):
            raise ValueError("[conv] padding='same' needs stride 1")
        total = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
        return [n for t in total for n in (t // 2, t - t // 2)]
    if isinstance(padding, str):
        raise ValueError(f"padding must be a number, one for each axis, 'same' or 'valid', got {padding!r}")
    return [n for p in (pair if len(kernel) == 2 else triple)(padding, "padding") for n in (p, p)]


_EXPECTED = {3: "(N, C, L)", 4: "(N, C, H, W)", 5: "(N, C, D, H, W)"}


def _images(x: TensorLike, op: str, ndim: int = 4) -> Tensor:
    t = _as_float(x)
    if t.ndim != ndim:
        raise ValueError(f"[{op}] expected {_EXPECTED[ndim]}, got shape {t.shape}")
    return t


def _with_bias(y: Tensor, bias: Tensor | None) -> Tensor:
    return y if bias is None else y + bias.reshape(1, -1, *(1,) * (y.ndim - 2))


def _conv(
    x: TensorLike, weight: Tensor, bias: Tensor | None, stride: Any, padding: Any, dilation: Any, groups: int, axes: int
) -> Tensor:
    op, sizes = f"conv{axes}d", pair if axes == 2 else triple
    t, w = operands((_images(x, op, axes + 2), weight))
    if t.shape[1] != w.shape[1] * groups:
        raise ValueError(
            f"[{op}] expected {w.shape[1] * groups} channels for a weight of {w.shape} in {groups} group(s), "
            f"got an input of shape {t.shape}"
        )
    strides, dilations, kernel = sizes(stride, "stride"), sizes(dilation, "dilation"), w.shape[2:]
    sides = _sides(padding, kernel, dilations, strides)
    for i, size in enumerate(t.shape[2:]):
        if size + sides[2 * i] + sides[2 * i + 1] < dilations[i] * (kernel[i] - 1) + 1:
            raise ValueError(f"[{op}] the kernel {kernel} is larger than the padded image, input shape {t.shape}")
    attrs = {
        "stride": strides, "padding": sides, "dilation": dilations, "groups": groups,
        "layout": "nchw" if axes == 2 else "ncdhw",
    }  # fmt: skip
    return _with_bias(apply1(op, (t, w), attrs), bias)


def conv2d(
    x: TensorLike, weight: Tensor, bias: Tensor | None = None, stride: Pair = 1, padding: Any = 0, dilation: Pair = 1,
    groups: int = 1,
) -> Tensor:  # fmt: skip
    """(N, C, H, W) by weight (O, C/groups, KH, KW) → (N, O, H', W'); padding may be "same" (stride 1) or "valid"."""
    return _conv(x, weight, bias, stride, padding, dilation, groups, 2)


def conv3d(
    x: TensorLike, weight: Tensor, bias: Tensor | None = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1,
    groups: int = 1,
) -> Tensor:  # fmt: skip
    """(N, C, D, H, W) by weight (O, C/groups, KD, KH, KW) → (N, O, D', H', W'), as conv2d."""
    return _conv(x, weight, bias, stride, padding, dilation, groups, 3)


def _flat(x: TensorLike, weight: TensorLike, op: str) -> tuple[Tensor, Tensor]:
    """Signals and their weight as images of height 1 and a flat kernel."""
    t, w = _images(x, op, 3), as_tensor(weight)
    if w.ndim != 3:
        raise ValueError(f"[{op}] expected a weight of three axes, got shape {w.shape}")
    return t.reshape(*t.shape[:2], 1, t.shape[2]), w.reshape(*w.shape[:2], 1, w.shape[2])


def conv1d(
    x: TensorLike, weight: Tensor, bias: Tensor | None = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1,
    groups: int = 1,
) -> Tensor:  # fmt: skip
    """(N, C, L) by weight (O, C/groups, K) → (N, O, L')."""
    image, kernel = _flat(x, weight, "conv1d")
    sides = padding if isinstance(padding, str) else (0, single(padding))
    y = conv2d(image, kernel, bias, (1, single(stride)), sides, (1, single(dilation)), groups)
    return y.squeeze(2)


def conv_transpose2d(
    x: TensorLike, weight: Tensor, bias: Tensor | None = None, stride: Pair = 1, padding: Pair = 0,
    output_padding: Pair = 0, groups: int = 1, dilation: Pair = 1,
) -> Tensor:  # fmt: skip
    """The adjoint of conv2d: (N, C, H, W) by weight (C, O/groups, KH, KW) → (N, O, H', W')."""
    t, w = operands((_images(x, "conv_transpose2d"), weight))
    if t.shape[1] != w.shape[0]:
        raise ValueError(f"[conv_transpose2d] expected {w.shape[0]} channels for a weight of {w.shape}, got {t.shape}")
    s, p, d = pair(stride, "stride"), pair(padding, "padding"), pair(dilation, "dilation")
    extra = pair(output_padding, "output_padding")
    if any(e >= max(a, b) for e, a, b in zip(extra, s, d, strict=True)):
        raise ValueError(f"output_padding {extra} must be smaller than stride {s} or dilation {d}")
    size = [(t.shape[2 + i] - 1) * s[i] - 2 * p[i] + d[i] * (w.shape[2 + i] - 1) + extra[i] + 1 for i in (0, 1)]
    attrs = {
        "stride": s, "padding": [p[0], p[0], p[1], p[1]], "dilation": d, "groups": groups, "layout": "nchw",
        "input_size": size,
    }  # fmt: skip
    return _with_bias(apply1("conv2d_backward_data", (t, w), attrs), bias)


def conv_transpose1d(
    x: TensorLike, weight: Tensor, bias: Tensor | None = None, stride: Any = 1, padding: Any = 0,
    output_padding: Any = 0, groups: int = 1, dilation: Any = 1,
) -> Tensor:  # fmt: skip
    """(N, C, L) by weight (C, O/groups, K) → (N, O, L')."""
    image, kernel = _flat(x, weight, "conv_transpose1d")
    y = conv_transpose2d(
        image, kernel, bias, (1, single(stride)), (0, single(padding)), (0, single(output_padding)), groups,
        (1, single(dilation)),
    )  # fmt: skip
    return y.squeeze(2)


def _window(kernel: Any, stride: Any, padding: Any) -> dict[str, Any]:
    k = pair(kernel, "kernel_size")
    p = pair(padding, "padding")
    if p[0] * 2 > k[0] or p[1] * 2 > k[1]:
        raise ValueError(f"[pool] padding {p} must be at most half the kernel {k}")
    return {
        "kernel": k, "stride": k if stride is None else pair(stride, "stride"), "padding": [p[0], p[0], p[1], p[1]],
        "layout": "nchw",
    }  # fmt: skip


def max_pool2d(
    x: TensorLike, kernel_size: Pair, stride: Pair | None = None, padding: Pair = 0, dilation: Pair = 1,
    ceil_mode: bool = False,
) -> Tensor:  # fmt: skip
    """The largest of each window; the stride is the kernel's size by default."""
    attrs = _window(kernel_size, stride, padding) | {"dilation": pair(dilation, "dilation"), "ceil": ceil_mode}
    return apply("max_pool2d", (_images(x, "max_pool2d"),), attrs)[0]


def avg_pool2d(
    x: TensorLike, kernel_size: Pair, stride: Pair | None = None, padding: Pair = 0, ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Tensor:  # fmt: skip
    """The average of each window; padding counts as zeros unless count_include_pad is False."""
    attrs = _window(kernel_size, stride, padding) | {"ceil": ceil_mode, "count_include_pad": count_include_pad}
    return apply1("avg_pool2d", (_images(x, "avg_pool2d"),), attrs)


def _signal(function: Callable[..., Tensor], x: TensorLike, *args: Any) -> Tensor:
    t = _images(x, function.__name__.replace("2d", "1d"), 3)
    return function(t.reshape(t.shape[0], t.shape[1], 1, t.shape[2]), *args).squeeze(2)


def max_pool1d(
    x: TensorLike, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False
) -> Tensor:
    step = None if stride is None else (1, single(stride))
    return _signal(
        max_pool2d, x, (1, single(kernel_size)), step, (0, single(padding)), (1, single(dilation)), ceil_mode
    )


def avg_pool1d(
    x: TensorLike, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Tensor:  # fmt: skip
    step = None if stride is None else (1, single(stride))
    return _signal(avg_pool2d, x, (1, single(kernel_size)), step, (0, single(padding)), ceil_mode, count_include_pad)


def _targets(x: Tensor, output_size: Any) -> tuple[int, int]:
    sizes = (output_size,) * 2 if output_size is None or isinstance(output_size, int) else tuple(output_size)
    if len(sizes) != 2 or not all(v is None or (isinstance(v, int) and 1 <= v <= 1 << 20) for v in sizes):
        raise ValueError(f"[adaptive pool] output_size must be one or two ints from 1 to 2**20, got {output_size!r}")
    h, w = (have if v is None else v for have, v in zip(x.shape[2:], sizes, strict=True))
    if not all(x.shape[2:]):
        raise ValueError(f"[adaptive pool] of images of no pixels: shape {x.shape}")
    return h, w


def _spans(size: int, out: int) -> list[tuple[int, int]]:
    """Window i of an adaptive pooling covers floor(i·size/out) … ceil((i+1)·size/out)."""
    return [(i * size // out, -(-(i + 1) * size // out)) for i in range(out)]


def _averaging(size: int, out: int) -> Any:
    matrix = np.zeros((out, size))
    for row, (a, b) in enumerate(_spans(size, out)):
        matrix[row, a:b] = 1.0 / (b - a)
    return matrix


def adaptive_avg_pool2d(x: TensorLike, output_size: Any) -> Tensor:
    """Averages of windows that divide the image as evenly as whole numbers allow; None keeps a size."""
    t = _images(x, "adaptive_avg_pool2d")
    (h, w), (oh, ow) = t.shape[2:], _targets(t, output_size)
    if h % oh == 0 and w % ow == 0:
        return avg_pool2d(t, (h // oh, w // ow))
    rows, columns = (as_tensor(_averaging(*s)).astype(t.dtype) for s in ((h, oh), (w, ow)))
    return matmul(matmul(rows, t), columns.T)


def adaptive_avg_pool1d(x: TensorLike, output_size: Any) -> Tensor:
    return _signal(adaptive_avg_pool2d, x, (1, single(output_size)))


def adaptive_max_pool2d(x: TensorLike, output_size: Any) -> Tensor:
    """The largest of windows as in adaptive_avg_pool2d."""
    t = _images(x, "adaptive_max_pool2d")
    (h, w), (oh, ow) = t.shape[2:], _targets(t, output_size)
    if h % oh == 0 and w % ow == 0:
        return max_pool2d(t, (h // oh, w // ow))
    rows = concatenate([max_of(t[:, :, a:b], 2, keepdims=True) for a, b in _spans(h, oh)], 2)
    return concatenate([max_of(rows[..., a:b], 3, keepdims=True) for a, b in _spans(w, ow)], 3)


def interpolate(x: TensorLike, size: Any = None, scale_factor: Any = None, mode: str = "nearest") -> Tensor:
    """Images resized by repeating the nearest pixel, to `size` or by whole or broken factors."""
    if mode != "nearest":
        raise ValueError(f"[interpolate] mode {mode!r} is not supported; use 'nearest'")
    t = _images(x, "interpolate")
    if (size is None) == (scale_factor is None):
        raise ValueError("[interpolate] needs either size or scale_factor")
    have = t.shape[2:]
    if not all(have):
        raise ValueError(f"[interpolate] of images of no pixels: shape {t.shape}")
    if size is not None:
        wanted = pair(size)
        factors = [w / h for w, h in zip(wanted, have, strict=True)]
    else:
        both = scale_factor if isinstance(scale_factor, (tuple, list)) else (scale_factor, scale_factor)
        factors = [float(f) for f in both]
        wanted = (math.floor(have[0] * factors[0]), math.floor(have[1] * factors[1]))
    for axis, (out, n, factor) in enumerate(zip(wanted, have, factors, strict=True), start=2):
        if out % n == 0 and factor == out // n:
            t = t if out == n else repeat(t, out // n, axis)
        else:
            index = np.minimum((np.arange(out) / factor).astype(np.int64), n - 1)
            t = t[(slice(None),) * axis + (index,)]
    return t


def pixel_shuffle(x: TensorLike, factor: int) -> Tensor:
    """(N, C·r², H, W) → (N, C, H·r, W·r)."""
    t = _images(x, "pixel_shuffle")
    n, c, h, w = t.shape
    if factor < 1 or c % factor**2:
        raise ValueError(f"[pixel_shuffle] {c} channels are no multiple of {factor}²")
    blocks = t.reshape(n, c // factor**2, factor, factor, h, w).transpose(0, 1, 4, 2, 5, 3)
    return blocks.reshape(n, c // factor**2, h * factor, w * factor)


def zero_pad2d(x: TensorLike, padding: Any) -> Tensor:
    """Zeros around the image: a number, or (left, right, top, bottom)."""
    left, right, top, bottom = (padding,) * 4 if isinstance(padding, int) else tuple(padding)
    return pad(_images(x, "zero_pad2d"), [(0, 0), (0, 0), (top, bottom), (left, right)])
