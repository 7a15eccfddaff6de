"""Learning rates as functions of the update's number (or with `per="epoch"` of the epoch's), counted from 0."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence


class Schedule:
    """`schedule(n)`: the learning rate of update (or epoch) n."""

    def __init__(self, function: Callable[[int], float], per: str = "step") -> None:
        if per not in ("step", "epoch"):
            raise ValueError(f"per must be 'step' or 'epoch', got {per!r}")
        self.function = function
        self.per = per

    def __call__(self, n: int) -> float:
        return float(self.function(n))


def _at_least(least: int, name: str, value: int) -> None:
    if value < least:
        raise ValueError(f"{name} must be at least {least}, got {value}")


def constant(lr: float) -> Schedule:
    return Schedule(lambda n: lr)


def step(lr: float, every: int, gamma: float = 0.1, per: str = "step") -> Schedule:
    """Times `gamma` after every `every` steps."""
    _at_least(1, "every", every)
    return Schedule(lambda n: lr * gamma ** (n // every), per)


def multistep(lr: float, milestones: Sequence[int], gamma: float = 0.1, per: str = "step") -> Schedule:
    """Times `gamma` at each milestone."""
    return Schedule(lambda n: lr * gamma ** sum(n >= m for m in milestones), per)


def exponential(lr: float, gamma: float, per: str = "step") -> Schedule:
    """Times `gamma` at each step."""
    return Schedule(lambda n: lr * gamma**n, per)


def cosine(lr: float, steps: int, minimum: float = 0.0, per: str = "step") -> Schedule:
    """Half a cosine wave from `lr` down to `minimum` after `steps`, then constant (SGDR, 2017)."""
    _at_least(1, "steps", steps)

    def rate(n: int) -> float:
        return minimum + (lr - minimum) * (1 + math.cos(math.pi * min(n, steps) / steps)) / 2

    return Schedule(rate, per)


def warmup(schedule: Callable[[int], float] | float, steps: int, start: float = 0.0) -> Schedule:
    """Linear from `start` times the first rate up to it within `steps`, then the schedule from its beginning."""
    _at_least(0, "steps", steps)
    rest = schedule if callable(schedule) else constant(schedule)

    def rate(n: int) -> float:
        return rest(n - steps) if n >= steps else rest(0) * (start + (1 - start) * (n + 1) / (steps + 1))

    return Schedule(rate, getattr(rest, "per", "step"))


def one_cycle(
    max_lr: float, steps: int, warm: float = 0.3, divide: float = 25.0, final_divide: float = 1e4
) -> Schedule:
    """Cosine from max_lr/divide up to max_lr over the first part `warm`, then down to max_lr/(divide·final_divide)
    (Smith and Topin, 2018; the numbers of torch.optim.lr_scheduler.OneCycleLR)."""
    _at_least(1, "steps", steps)
    if not 0 <= warm <= 1:
        raise ValueError(f"warm is the part of the steps that the rate rises in, from 0 to 1, got {warm}")
    first, last = max_lr / divide, max_lr / divide / final_divide
    top = warm * steps - 1

    def between(a: float, b: float, t: float) -> float:
        return b + (a - b) * (1 + math.cos(math.pi * t)) / 2

    def rate(n: int) -> float:
        if n <= top:
            return between(first, max_lr, n / top if top > 0 else 1.0)
        left = steps - 1 - top
        return between(max_lr, last, min(1.0, (n - top) / left) if left > 0 else 1.0)

    return Schedule(rate)


class ReduceOnPlateau(Schedule):
    """Times `factor` when what is watched has not got better (by the part `threshold`) for more than `patience` epochs.

    The Trainer calls `update(value)` after each epoch; a loop of one's own does so itself.
    """

    def __init__(
        self, lr: float, factor: float = 0.1, patience: int = 10, threshold: float = 1e-4, mode: str = "min",
        minimum: float = 0.0,
    ) -> None:  # fmt: skip
        if mode not in ("min", "max"):
            raise ValueError(f"mode must be 'min' or 'max', got {mode!r}")
        super().__init__(lambda n: self.lr, "epoch")
        self.lr, self.factor, self.patience, self.threshold, self.minimum = lr, factor, patience, threshold, minimum
        self.sign = 1.0 if mode == "min" else -1.0
        self.best = math.inf
        self.waited = 0

    def update(self, value: float) -> None:
        """Takes in the watched value of an epoch."""
        value = self.sign * float(value)
        if math.isinf(self.best) or value < self.best - self.threshold * abs(self.best):
            self.best, self.waited = value, 0
            return
        self.waited += 1
        if self.waited > self.patience:
            self.lr, self.waited = max(self.lr * self.factor, self.minimum), 0

    def get_state(self) -> list[float]:
        return [self.lr, self.best, float(self.waited)]

    def set_state(self, state: Sequence[float]) -> None:
        self.lr, self.best, self.waited = float(state[0]), float(state[1]), int(state[2])
