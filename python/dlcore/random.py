"""Random numbers from counters (Philox): a draw depends on the seed, its site and the step, and nothing else.

Outside a trace each draw takes the next site. In a traced function each random operation has its own site, and the step
is a state of the program that grows by one with every run.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from dlcore import dtype, trace
from dlcore.dtype import as_dtype
from dlcore.reductions import argsort
from dlcore.shaping import sizes, take
from dlcore.tensor import Tensor, TensorLike, apply1, as_tensor, cast_to
from dlcore.variable import Buffer

_EAGER_SITES = 1 << 30  # sites of traced operations count from 0
_state = Buffer(np.array([0, 0], dtype=np.int64))  # (seed, step)
_lock = threading.Lock()
_drawn = 0  # eager draws since the seed was set


def seed(value: int) -> None:
    """Starts all random numbers anew: the same seed and the same program give the same bits."""
    set_state({"seed": value, "step": 0, "draws": 0})


def get_state() -> dict[str, int]:
    """What a checkpoint needs to go on with the same numbers: three integers."""
    held = _state.core.numpy()
    return {"seed": int(held[0]), "step": int(held[1]), "draws": _drawn}


def set_state(state: dict[str, int]) -> None:
    """Back to a state that get_state gave."""
    global _drawn
    if not -(2**63) <= state["seed"] < 2**63:
        raise ValueError(f"the seed must fit 64 bits, got {state['seed']}")
    with _lock:
        _state.core.copy_from(as_tensor(np.array([state["seed"], state["step"]], dtype=np.int64)).core)
        _drawn = state["draws"]


def source() -> tuple[Tensor, int]:
    """(rng, site) for the next random operation."""
    global _drawn
    active = trace.current()
    if active is not None:
        active.rng = _state
        active.name({"rng": _state})
        return _state, active.site()
    with _lock:
        _drawn += 1
        site = _EAGER_SITES + (_drawn - 1) % _EAGER_SITES
    return as_tensor(np.array([_state.core.numpy()[0], 0], dtype=np.int64)), site


def uniform(low: float = 0.0, high: float = 1.0, shape: int | Sequence[int] = (), dtype: Any = dtype.float32) -> Tensor:
    """Evenly spread over [low, high)."""
    rng, site = source()
    attrs = {"shape": sizes(shape), "site": site, "low": float(low), "high": float(high)}
    return _as(apply1("random_uniform", (rng,), attrs), dtype)


def normal(mean: float = 0.0, std: float = 1.0, shape: int | Sequence[int] = (), dtype: Any = dtype.float32) -> Tensor:
    """Gaussian with this mean and standard deviation."""
    rng, site = source()
    drawn = apply1("random_normal", (rng,), {"shape": sizes(shape), "site": site})
    if std != 1:
        drawn = drawn * std
    return _as(drawn + mean if mean else drawn, dtype)


def randint(low: int, high: int, shape: int | Sequence[int] = ()) -> Tensor:
    """int64 in [low, high); the range is at most 2**24 wide."""
    if not 0 < high - low <= 1 << 24:
        raise ValueError(f"[randint] the range [{low}, {high}) must hold between 1 and {1 << 24} numbers")
    drawn = uniform(0.0, 1.0, shape).astype(dtype.float64) * (high - low)
    return drawn.astype(dtype.int64) + low


def permutation(n: int) -> Tensor:
    """0 … n-1 in random order, int64: the order of n draws of 48 bits."""
    coarse, fine = (cast_to(uniform(shape=n), dtype.float64) for _ in range(2))
    return argsort(coarse + fine * 2.0**-24)


def shuffle(x: TensorLike, axis: int = 0) -> Tensor:
    """The slices along an axis in random order."""
    t = as_tensor(x)
    return take(t, permutation(t.shape[axis]), axis)


def bernoulli(p: float, shape: int | Sequence[int] = ()) -> Tensor:
    """Booleans, true with probability p."""
    return uniform(shape=shape) < p


def _as(drawn: Tensor, to: Any) -> Tensor:
    return cast_to(drawn, as_dtype(to))
