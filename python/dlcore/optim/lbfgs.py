"""L-BFGS (Liu and Nocedal, "On the limited memory BFGS method for large scale optimization", 1989)."""

from __future__ import annotations

import builtins
import math
from collections.abc import Mapping
from typing import Any

from dlcore import _core
from dlcore.elementwise import abs, maximum, minimum, where
from dlcore.optim.optimizer import Optimizer, Rate
from dlcore.reductions import max, sum
from dlcore.shaping import concatenate
from dlcore.tensor import Tensor, cast_to
from dlcore.variable import Parameter


class LBFGS(Optimizer):
    """As torch.optim.LBFGS(max_iter=1): each step is one iteration, without a line search.

    The direction is the gradient times an estimate of the inverse Hessian from the last `history_size` steps, which are
    kept (2·history_size times the parameters' memory). Meant for small models and batches of all data: gradients of
    different batches do not tell the curvature. A step is not taken where the largest gradient is at most
    tolerance_grad or the slope along the direction above -tolerance_change. Where the loss rises, lower lr. No groups.
    """

    def __init__(
        self, lr: Rate = 1.0, tolerance_grad: float = 1e-7, tolerance_change: float = 1e-9, history_size: int = 100,
        **shared: Any,
    ) -> None:  # fmt: skip
        if history_size < 1:
            raise ValueError(f"history_size must be at least 1, got {history_size}")
        if shared.get("groups"):
            raise ValueError("LBFGS has no groups: its direction is one for all parameters")
        options = {"tolerance_grad": tolerance_grad, "tolerance_change": tolerance_change, "history_size": history_size}
        super().__init__(lr, options, **shared)
        self._names: list[str] = []

    def prepare(self, parameters: Mapping[str, Parameter]) -> None:
        super().prepare(parameters)
        if self._names and self._names != list(parameters):
            raise ValueError(
                f"LBFGS keeps one history for all parameters: it began with {self._names}, now come {list(parameters)}"
            )
        self._names = list(parameters)
        kinds = {p.core.dtype for p in parameters.values()}
        if len(kinds) > 1:
            raise TypeError(f"LBFGS takes parameters of one dtype, got {', '.join(sorted(kinds))}")
        (dtype,) = kinds
        size, history = builtins.sum(math.prod(p.shape) for p in parameters.values()), self.options["history_size"]
        shapes = {
            "old_stps": (history, size), "old_dirs": (history, size), "ro": (history,), "d": (size,), "t": (),
            "H_diag": (), "prev_flat_grad": (size,), "n_iter": (),
        }  # fmt: skip
        for key, shape in shapes.items():
            self._make(key, _core.Tensor(dtype, shape))

    def updated(
        self, parameters: Mapping[str, Parameter], gradients: dict[str, Tensor], rates: dict[int, Tensor], step: Tensor
    ) -> dict[str, Tensor]:
        state, history = self._state, self.options["history_size"]
        g = concatenate([gradients[n].reshape(-1) for n in parameters], 0)
        first = state["n_iter"] == 0.0
        awake = max(abs(g)) > float(self.options["tolerance_grad"])

        # What the last step taught.
        y, s = g - state["prev_flat_grad"], state["d"] * state["t"]
        ys = sum(y * s)
        learns = (ys > 1e-10) & ~first
        safe = where(learns, ys, 1.0)

        def pushed(old: Tensor, new: Tensor) -> Tensor:
            return where(learns, concatenate([old[1:], new.reshape(1, *old.shape[1:])], 0), old)

        steps, dirs = pushed(state["old_stps"], s), pushed(state["old_dirs"], y)
        ro = pushed(state["ro"], 1.0 / safe)  # 0 for what is not there yet, which then adds nothing
        scale = where(first, 1.0, where(learns, safe / where(learns, sum(y * y), 1.0), state["H_diag"]))

        # The two loops; by places that no step has filled they change nothing.
        d, alpha = -g, {}
        for i in reversed(range(history)):
            alpha[i] = sum(steps[i] * d) * ro[i]
            d = d - alpha[i] * dirs[i]
        d = d * scale
        for i in range(history):
            d = d + steps[i] * (alpha[i] - sum(dirs[i] * d) * ro[i])

        lr = cast_to(rates[0], g.dtype)
        t = where(first, minimum(1.0, 1.0 / maximum(sum(abs(g)), 1e-30)), 1.0) * lr
        t = where(sum(g * d) > -float(self.options["tolerance_change"]), 0.0, t)
        new = {
            "old_stps": steps, "old_dirs": dirs, "ro": ro, "d": d, "t": t, "H_diag": scale, "prev_flat_grad": g,
            "n_iter": state["n_iter"] + 1.0,
        }  # fmt: skip
        move = where(awake, t, 0.0) * d
        for key, value in new.items():
            self._state[key].assign(where(awake, value, state[key]))
        found, at = {}, 0
        for name, p in parameters.items():
            count = math.prod(p.shape)
            found[name] = p + move[at : at + count].reshape(*p.shape)
            at += count
        return found
