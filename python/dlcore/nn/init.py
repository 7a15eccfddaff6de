"""First values of parameters, as torch.nn.init, drawn from the seeded stream; each fills its tensor in place."""

from __future__ import annotations

import math

import numpy as np

from dlcore import random
from dlcore.creation import eye, full
from dlcore.variable import Variable


def fans(tensor: Variable) -> tuple[int, int]:
    """(fan_in, fan_out) of a weight (out, in, …). ValueError below two dimensions."""
    shape = tensor.shape
    if len(shape) < 2:
        raise ValueError(f"fan in and fan out need at least two dimensions, got {shape}")
    field = math.prod(shape[2:])
    return shape[1] * field, shape[0] * field


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """The factor by which a nonlinearity shrinks deviations, as torch.nn.init.calculate_gain."""
    gains = {
        "linear": 1.0, "conv1d": 1.0, "conv2d": 1.0, "conv3d": 1.0, "sigmoid": 1.0, "tanh": 5 / 3,
        "relu": math.sqrt(2.0),
        "selu": 0.75,
        "leaky_relu": math.sqrt(2.0 / (1 + (0.01 if param is None else param) ** 2)),
    }  # fmt: skip
    if nonlinearity not in gains:
        raise ValueError(f"no gain is known for {nonlinearity!r}; known: {', '.join(gains)}")
    return gains[nonlinearity]


def uniform_(tensor: Variable, a: float = 0.0, b: float = 1.0) -> Variable:
    tensor.assign(random.uniform(a, b, tensor.shape))
    return tensor


def normal_(tensor: Variable, mean: float = 0.0, std: float = 1.0) -> Variable:
    tensor.assign(random.normal(mean, std, tensor.shape))
    return tensor


def trunc_normal_(tensor: Variable, mean: float = 0.0, std: float = 1.0, a: float = -2.0, b: float = 2.0) -> Variable:
    """Normal cut off outside [a, b]: draws outside are drawn again."""
    if not a < b or b < mean - 6 * std or a > mean + 6 * std:
        raise ValueError(f"[trunc_normal_] the interval [{a}, {b}] holds next to nothing of N({mean}, {std}²)")
    values = np.array(random.normal(mean, std, tensor.shape))
    while (outside := (values < a) | (values > b)).any():
        values[outside] = random.normal(mean, std, int(outside.sum())).numpy()
    tensor.assign(values)
    return tensor


def constant_(tensor: Variable, value: float) -> Variable:
    tensor.assign(full(tensor.shape, value, tensor.dtype))
    return tensor


def zeros_(tensor: Variable) -> Variable:
    return constant_(tensor, 0.0)


def ones_(tensor: Variable) -> Variable:
    return constant_(tensor, 1.0)


def eye_(tensor: Variable) -> Variable:
    """The identity matrix."""
    if tensor.ndim != 2:
        raise ValueError(f"[eye_] needs two dimensions, got {tensor.shape}")
    tensor.assign(eye(*tensor.shape))
    return tensor


def xavier_uniform_(tensor: Variable, gain: float = 1.0) -> Variable:
    """Uniform with variance gain² · 2 / (fan_in + fan_out) (Glorot and Bengio, 2010)."""
    bound = gain * math.sqrt(6.0 / sum(fans(tensor)))
    return uniform_(tensor, -bound, bound)


def xavier_normal_(tensor: Variable, gain: float = 1.0) -> Variable:
    """Normal with variance gain² · 2 / (fan_in + fan_out)."""
    return normal_(tensor, 0.0, gain * math.sqrt(2.0 / sum(fans(tensor))))


def _kaiming_std(tensor: Variable, a: float, mode: str, nonlinearity: str) -> float:
    if mode not in ("fan_in", "fan_out"):
        raise ValueError(f"mode must be 'fan_in' or 'fan_out', got {mode!r}")
    return calculate_gain(nonlinearity, a) / math.sqrt(fans(tensor)[mode == "fan_out"])


def kaiming_uniform_(
    tensor: Variable, a: float = 0.0, mode: str = "fan_in", nonlinearity: str = "leaky_relu"
) -> Variable:
    """Uniform with variance gain² / fan (He and others, 2015)."""
    bound = math.sqrt(3.0) * _kaiming_std(tensor, a, mode, nonlinearity)
    return uniform_(tensor, -bound, bound)


def kaiming_normal_(
    tensor: Variable, a: float = 0.0, mode: str = "fan_in", nonlinearity: str = "leaky_relu"
) -> Variable:
    """Normal with variance gain² / fan."""
    return normal_(tensor, 0.0, _kaiming_std(tensor, a, mode, nonlinearity))


def orthogonal_(tensor: Variable, gain: float = 1.0) -> Variable:
    """Rows (or columns, the fewer) orthonormal times gain, axes after the first as one (Saxe and others, 2013)."""
    if tensor.ndim < 2:
        raise ValueError(f"[orthogonal_] needs at least two dimensions, got {tensor.shape}")
    rows, columns = tensor.shape[0], math.prod(tensor.shape[1:])
    flat = np.asarray(random.normal(shape=(max(rows, columns), min(rows, columns))), np.float64)
    q, r = np.linalg.qr(flat)
    q = q * np.sign(np.diag(r))
    tensor.assign(gain * (q.T if rows < columns else q).reshape(tensor.shape))
    return tensor


def default_(weight: Variable, bias: Variable | None) -> None:
    """PyTorch's default for linear and convolutional layers: both uniform within 1 / sqrt(fan_in)."""
    fan_in = fans(weight)[0]
    bound = 1 / math.sqrt(fan_in) if fan_in else 0.0
    uniform_(weight, -bound, bound)
    if bias is not None:
        uniform_(bias, -bound, bound)
