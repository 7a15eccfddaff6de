"""What optimizers share: groups, learning rates, clipping, accumulation, averages and saved state.

An optimizer adds its update to the graph of a training step; learning rates and the count of updates enter as inputs,
so that one program serves all steps.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, TypeAlias

import numpy as np

from dlcore import _core, elementwise, reductions, trace
from dlcore.creation import zeros
from dlcore.tensor import Tensor, as_tensor, cast_to, to_core
from dlcore.variable import Buffer, Parameter

Rate: TypeAlias = "float | Callable[[int], float]"
Options: TypeAlias = "dict[str, Any]"


class Optimizer:
    """Base of all optimizers.

    lr: a number, or a schedule (a function of the number of updates so far).
    groups: options of parameters by name pattern, the first that fits: `{"*.bias": {"weight_decay": 0.0}}`.
    clip_norm: gradients are scaled so that their common 2-norm is at most this.
    accumulate: gradients of so many steps are averaged before an update.
    ema: decay of a running average of the parameters, used within `with optimizer.averaged():`.
    """

    slots: ClassVar[tuple[str, ...]] = ()  # state kept for each parameter, zeros at first

    def __init__(
        self,
        lr: Rate,
        options: Options,
        *,
        groups: Mapping[str, Mapping[str, Any]] | None = None,
        clip_norm: float | None = None,
        accumulate: int = 1,
        ema: float | None = None,
    ) -> None:
        _check({"lr": lr} | options)
        if accumulate < 1:
            raise ValueError(f"accumulate must be at least 1, got {accumulate}")
        if clip_norm is not None and clip_norm <= 0:
            raise ValueError(f"clip_norm must be positive, got {clip_norm}")
        if ema is not None and not 0 <= ema < 1:
            raise ValueError(f"ema must be in [0, 1), got {ema}")
        self.lr = lr
        self.options = options
        self.groups: list[tuple[str, Options]] = []
        for pattern, own in (groups or {}).items():
            unknown = set(own) - set(options) - {"lr"}
            if unknown:
                raise ValueError(
                    f"group '{pattern}' has unknown options {sorted(unknown)}; known: lr, {', '.join(options)}"
                )
            _check(own)
            self.groups.append((pattern, dict(own)))
        self.clip_norm = clip_norm
        self.accumulate = accumulate
        self.ema = ema
        self.steps = 0  # updates so far
        self.epoch = 0  # set by the Trainer, for schedules per epoch
        self._pending = 0  # gradients accumulated since the last update
        self._parameters: dict[str, Parameter] = {}
        self._state: dict[str, Buffer] = {}
        self._loaded: dict[str, Any] = {}

    # What a kind of optimizer defines.
    def slots_of(self, options: Options) -> Sequence[str]:
        """The slots a parameter with these options needs."""
        return self.slots

    def update(
        self, p: Tensor, g: Tensor, state: dict[str, Tensor], lr: Tensor, step: Tensor, options: Options
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """(new parameter, new state) of one parameter; lr is a scalar of p's dtype, steps count from 1."""
        raise NotImplementedError(f"{type(self).__name__} does not define its update")

    def updated(
        self, parameters: Mapping[str, Parameter], gradients: dict[str, Tensor], rates: dict[int, Tensor], step: Tensor
    ) -> dict[str, Tensor]:
        """The new parameters, their new state being assigned; rates by group. One by one, if not defined otherwise."""
        found = {}
        for name, p in parameters.items():
            group, options = self.options_of(name)
            held: dict[str, Tensor] = {k: self._state[f"{k}.{name}"] for k in self.slots_of(options)}
            found[name], changed = self.update(p, gradients[name], held, cast_to(rates[group], p.dtype), step, options)
            for kind, value in changed.items():
                self._state[f"{kind}.{name}"].assign(value)
        return found

    # Learning rates.
    def options_of(self, name: str) -> tuple[int, Options]:
        """(group, options) of a parameter; group 0 is what no pattern fits."""
        for i, (pattern, own) in enumerate(self.groups):
            if fnmatch.fnmatchcase(name, pattern):
                return i + 1, self.options | own
        return 0, self.options

    def learning_rate(self, group: int = 0) -> float:
        """The rate of the next update."""
        lr = self.groups[group - 1][1].get("lr", self.lr) if group else self.lr
        if not callable(lr):
            return float(lr)
        return float(lr(self.epoch if getattr(lr, "per", "step") == "epoch" else self.steps))

    def varies(self, group: int) -> bool:
        """Whether the rate changes within an epoch."""
        lr = self.groups[group - 1][1].get("lr", self.lr) if group else self.lr
        return callable(lr) and getattr(lr, "per", "step") != "epoch"

    # Steps.
    def applies(self) -> bool:
        """Whether the next step updates (or, with `accumulate`, only adds its gradients up)."""
        return self._pending + 1 >= self.accumulate

    def advance(self) -> None:
        """Counts a step that has run."""
        if self.applies():
            self.steps += 1
            self._pending = 0
        else:
            self._pending += 1

    def prepare(self, parameters: Mapping[str, Parameter]) -> None:
        """Makes the state of parameters that have none yet."""
        for name, p in parameters.items():
            if self._parameters.get(name, p) is not p:
                raise ValueError(
                    f"this optimizer already has a parameter '{name}' of another model; make one for each model"
                )
            self._parameters[name] = p
            kinds = list(self.slots_of(self.options_of(name)[1]))
            if self.accumulate > 1:
                kinds.append("accumulated")
            for kind in kinds:
                self._make(f"{kind}.{name}", _core.Tensor(p.core.dtype, p.core.shape))
            if self.ema is not None:
                self._make(f"ema.{name}", p.core)

    def _make(self, key: str, initial: _core.Tensor) -> None:
        if key not in self._state:
            self._state[key] = Buffer(Tensor(initial))
            if key in self._loaded:
                _fill(self._state[key], key, self._loaded.pop(key))

    def emit(
        self, active: trace.Trace, parameters: Mapping[str, Parameter], gradients: dict[str, Tensor], applies: bool
    ) -> Scalars:
        """Appends the update to the trace. The result gives, before each run, the inputs that it added."""
        active.name({f"optimizer.{k}": b for k, b in self._state.items()})
        if self.accumulate > 1:
            for name, g in gradients.items():
                kept = self._state[f"accumulated.{name}"]
                total = kept + g
                kept.assign(zeros(g.shape, g.dtype) if applies else total)
                gradients[name] = total / float(self.accumulate)
        if not applies:
            return Scalars(self, None, np.float32)
        if self.clip_norm is not None:
            gradients = clip_by_norm(gradients, self.clip_norm)
        groups: dict[int, Tensor] = {}
        double = any(p.dtype == "float64" for p in parameters.values())
        for name in parameters:
            group = self.options_of(name)[0]
            if group not in groups:
                label = f"lr.{group}" if group else "lr"
                groups[group] = Tensor(None, active, active.input(label, "f64" if double else "f32", ()))
        step = Tensor(None, active, active.input("step", "i64", ()))
        for name, new in self.updated(parameters, gradients, groups, step).items():
            parameters[name].assign(new)
            if self.ema is not None:
                average = self._state[f"ema.{name}"]
                average.assign(average * self.ema + new * (1.0 - self.ema))
        return Scalars(self, list(groups), np.float64 if double else np.float32)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Within, the parameters hold their running averages (`ema=`); do not train there."""
        if self.ema is None:
            raise ValueError("this optimizer keeps no averages; make it with ema=0.999 or the like")
        before = {n: p.core.clone() for n, p in self._parameters.items()}
        for name, p in self._parameters.items():
            p.core.copy_from(self._state[f"ema.{name}"].core)
        try:
            yield
        finally:
            for name, p in self._parameters.items():
                p.core.copy_from(before[name])

    # Checkpoints.
    def state_dict(self) -> dict[str, Tensor]:
        """Counters, schedules' and parameters' state, by name ("exp_avg.layer.weight")."""
        counters = np.array([self.steps, self._pending, self.epoch], dtype=np.int64)
        saved: dict[str, Tensor] = {"counters": as_tensor(counters)}
        for key, schedule in self._schedules().items():
            saved[key] = as_tensor(np.array(schedule.get_state(), dtype=np.float64).view(np.int64))
        return saved | self._state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """What state_dict gave, of any array type; values for parameters not seen yet wait until they are."""
        if "counters" not in state:
            raise KeyError("'counters' is missing: this is no state of an optimizer")
        self.steps, self._pending, self.epoch = (int(v) for v in np.asarray(state["counters"]))
        schedules = self._schedules()
        for key, value in state.items():
            if key in schedules:
                schedules[key].set_state(np.asarray(value, dtype=np.int64).view(np.float64))
            elif key in self._state:
                _fill(self._state[key], key, value)
            elif key != "counters":
                self._loaded[key] = value

    def _schedules(self) -> dict[str, Any]:
        rates = [self.lr, *(own.get("lr") for _, own in self.groups)]
        return {f"schedule.{i}": r for i, r in enumerate(rates) if hasattr(r, "get_state")}

    def __repr__(self) -> str:
        shown = ", ".join(f"{k}={v}" for k, v in self.options.items())
        return f"{type(self).__name__}(lr={self.lr}, {shown})"


def _check(options: Mapping[str, Any]) -> None:
    """Ranges of what the optimizers have in common by name, as in PyTorch."""
    for name, value in options.items():
        if name == "lr":
            if not callable(value) and not value >= 0:
                raise ValueError(f"the learning rate must not be negative, got {value}")
        elif name == "betas":
            if len(value) != 2 or not all(0 <= b < 1 for b in value):
                raise ValueError(f"betas must be two numbers from 0 to below 1, got {value}")
        elif name == "rho":
            if not 0 <= value <= 1:
                raise ValueError(f"rho must be from 0 to 1, got {value}")
        elif name in ("momentum", "weight_decay", "eps", "lr_decay", "alpha") and not value >= 0:
            raise ValueError(f"{name} must not be negative, got {value}")


class Scalars:
    """The inputs that an optimizer adds to a step: a learning rate for each group in use, and the count of updates."""

    def __init__(self, optimizer: Optimizer, groups: list[int] | None, real: type[np.floating[Any]]) -> None:
        self.optimizer, self.groups, self.real = optimizer, groups, real

    def __call__(self) -> list[_core.Tensor]:
        """Of the next step."""
        if self.groups is None:
            return []
        rates = [np.asarray(self.optimizer.learning_rate(g), self.real) for g in self.groups]
        steps = np.asarray(self.optimizer.steps + 1, np.int64)
        return [_core.Tensor.from_numpy(a) for a in (*rates, steps)]

    def stacked(self, count: int) -> list[_core.Tensor]:
        """Of the next `count` steps, each on a new first axis."""
        if self.groups is None:
            return []
        optimizer, begin = self.optimizer, self.optimizer.steps
        rates = np.empty((len(self.groups), count), self.real)
        try:
            for i, g in enumerate(self.groups):
                for k in range(count if optimizer.varies(g) else 1):
                    optimizer.steps = begin + k
                    rates[i, k:] = optimizer.learning_rate(g)
        finally:
            optimizer.steps = begin
        steps = np.arange(begin + 1, begin + count + 1, dtype=np.int64)
        return [_core.Tensor.from_numpy(a) for a in (*rates, steps)]


def _fill(buffer: Buffer, key: str, value: Any) -> None:
    new = to_core(value, buffer.dtype)
    if new.shape != buffer.shape:
        raise ValueError(f"optimizer state '{key}': expected shape {buffer.shape}, got {new.shape}")
    buffer.core.copy_from(new)  # at once, even while a step is traced


def global_norm(gradients: Mapping[str, Tensor]) -> Tensor:
    """The 2-norm of all gradients together."""
    squares = [reductions.sum(g * g) for g in gradients.values()]
    total = squares[0]
    for s in squares[1:]:
        total = total + s
    return elementwise.sqrt(total)


def clip_by_norm(gradients: Mapping[str, Tensor], limit: float) -> dict[str, Tensor]:
    """Gradients scaled by min(1, limit / (norm + 1e-6)), as torch.nn.utils.clip_grad_norm_ does."""
    scale = elementwise.minimum(limit / (global_norm(gradients) + 1e-6), 1.0)
    return {n: g * scale for n, g in gradients.items()}
