"""The elementary functions against float64: at most 2 ulp over all of float32 (GELU 20, by tanh 3), specials too.

All 2³² inputs take minutes a function through NumPy's float64, so every run looks at a stride of them that is coprime
to the mantissa's length, and the slow run (`pytest -m slow`) at a denser one; each binade, its ends, denormals,
infinities and NaN are in both.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from dlcore import _core

Array = np.ndarray[Any, Any]
_erf = np.frompyfunc(math.erf, 1, 1)
_erfc = np.frompyfunc(math.erfc, 1, 1)


def sigmoid(x: Array) -> Array:
    small = np.exp(-np.abs(x))
    return np.where(x < 0, small, 1) / (1 + small)


def gelu_tanh(x: Array) -> Array:
    gate = sigmoid(2 * math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))
    return np.where(gate == 0, 0, x) * gate  # not -inf · 0


# Beyond these arguments float64's own sin and cos are still good; Python's erf is slow, so it gets fewer inputs.
FUNCTIONS: dict[str, tuple[Callable[[Array], Array], int]] = {
    "exp": (np.exp, 1), "log": (np.log, 1), "tanh": (np.tanh, 1), "sigmoid": (sigmoid, 1), "sin": (np.sin, 1),
    "cos": (np.cos, 1), "expm1": (np.expm1, 1), "log1p": (np.log1p, 1), "erf": (lambda x: _erf(x).astype(float), 8),
    "gelu": (lambda x: np.where(np.isinf(x), np.maximum(x, 0), 0.5 * x * _erfc(-x / math.sqrt(2)).astype(float)), 8),
    "gelu_tanh": (gelu_tanh, 1),
}  # fmt: skip
LIMITS = {"gelu": 20, "gelu_tanh": 3}  # else 2
FLUSHED = {"gelu": 2.0**-126, "gelu_tanh": 2e-37}  # a result below may be 0


def inputs(stride: int) -> Array:
    """Bit patterns `stride` apart, and the neighbours of every power of two."""
    powers = (np.arange(256, dtype=np.int64) << 23)[:, None] + np.arange(-3, 4)
    near = np.concatenate([powers.ravel(), powers.ravel() + (1 << 31)])
    patterns = np.unique(np.concatenate([np.arange(0, 1 << 32, stride), near % (1 << 32)]))
    return patterns.astype(np.uint32).view(np.float32)


def check(name: str, stride: int) -> None:
    function, factor = FUNCTIONS[name]
    x = inputs(stride * factor)
    with np.errstate(all="ignore"):
        want = function(x.astype(np.float64))
    got = _core.run_op(name, [_core.Tensor.from_numpy(x)])[0].numpy()
    with np.errstate(all="ignore"):
        nearest = want.astype(np.float32)
    special = ~np.isfinite(nearest)
    np.testing.assert_array_equal(got[special], nearest[special])
    x, got, want, nearest = (a[~special] for a in (x, got, want, nearest))
    with np.errstate(over="ignore"):
        ulp = np.spacing(np.maximum(np.abs(nearest), np.float32(2**-126))).astype(np.float64)
    lost = np.where((got == 0) & (np.abs(want) < FLUSHED.get(name, 0)), 0, got - want)
    errors = np.abs(lost) / ulp
    worst = int(np.argmax(errors))
    found = f"{name}({x[worst]!r}) is {got[worst]!r}, {errors[worst]:.3f} ulp from {want[worst]!r}"
    assert errors[worst] <= LIMITS.get(name, 2), found


@pytest.mark.parametrize("name", FUNCTIONS)
def test_sampled(name: str) -> None:
    check(name, 16411)


@pytest.mark.slow
@pytest.mark.parametrize("name", FUNCTIONS)
def test_densely(name: str) -> None:
    check(name, 521)
