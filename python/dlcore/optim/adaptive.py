"""Further optimizers, written in tensor functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from dlcore.elementwise import sign, sqrt
from dlcore.optim.optimizer import Optimizer, Options, Rate
from dlcore.tensor import Tensor, cast_to


def _decayed(p: Tensor, g: Tensor, options: Options) -> Tensor:
    return g + p * float(options["weight_decay"]) if options["weight_decay"] else g


class RMSprop(Optimizer):
    """As torch.optim.RMSprop: the gradient over the root of its mean square (Hinton, 2012)."""

    def __init__(
        self, lr: Rate = 1e-2, alpha: float = 0.99, eps: float = 1e-8, weight_decay: float = 0.0, momentum: float = 0.0,
        centered: bool = False, **shared: Any,
    ) -> None:  # fmt: skip
        options = {
            "alpha": alpha, "eps": eps, "weight_decay": weight_decay, "momentum": momentum, "centered": centered,
        }  # fmt: skip
        super().__init__(lr, options, **shared)

    def slots_of(self, options: Options) -> Sequence[str]:
        used = {"square_avg": True, "grad_avg": options["centered"], "momentum_buffer": options["momentum"]}
        return [k for k, v in used.items() if v]

    def update(
        self, p: Tensor, g: Tensor, state: dict[str, Tensor], lr: Tensor, step: Tensor, options: Options
    ) -> tuple[Tensor, dict[str, Tensor]]:
        alpha = float(options["alpha"])
        g = _decayed(p, g, options)
        new = {"square_avg": state["square_avg"] * alpha + g * g * (1 - alpha)}
        spread = new["square_avg"]
        if options["centered"]:
            new["grad_avg"] = state["grad_avg"] * alpha + g * (1 - alpha)
            spread = spread - new["grad_avg"] * new["grad_avg"]
        d = g / (sqrt(spread) + float(options["eps"]))
        if options["momentum"]:
            d = new["momentum_buffer"] = state["momentum_buffer"] * float(options["momentum"]) + d
        return p - lr * d, new


class Adagrad(Optimizer):
    """As torch.optim.Adagrad: the gradient over the root of the sum of its squares (Duchi and others, 2011)."""

    slots: ClassVar[tuple[str, ...]] = ("sum",)

    def __init__(
        self, lr: Rate = 1e-2, lr_decay: float = 0.0, weight_decay: float = 0.0, eps: float = 1e-10, **shared: Any
    ) -> None:
        super().__init__(lr, {"lr_decay": lr_decay, "weight_decay": weight_decay, "eps": eps}, **shared)

    def update(
        self, p: Tensor, g: Tensor, state: dict[str, Tensor], lr: Tensor, step: Tensor, options: Options
    ) -> tuple[Tensor, dict[str, Tensor]]:
        g = _decayed(p, g, options)
        if options["lr_decay"]:
            lr = lr / ((cast_to(step, lr.dtype) - 1.0) * float(options["lr_decay"]) + 1.0)
        total = state["sum"] + g * g
        return p - lr * (g / (sqrt(total) + float(options["eps"]))), {"sum": total}


class Adadelta(Optimizer):
    """As torch.optim.Adadelta: the step is scaled by the size of the steps before (Zeiler, 2012)."""

    slots: ClassVar[tuple[str, ...]] = ("square_avg", "acc_delta")

    def __init__(
        self, lr: Rate = 1.0, rho: float = 0.9, eps: float = 1e-6, weight_decay: float = 0.0, **shared: Any
    ) -> None:
        super().__init__(lr, {"rho": rho, "eps": eps, "weight_decay": weight_decay}, **shared)

    def update(
        self, p: Tensor, g: Tensor, state: dict[str, Tensor], lr: Tensor, step: Tensor, options: Options
    ) -> tuple[Tensor, dict[str, Tensor]]:
        rho, eps = float(options["rho"]), float(options["eps"])
        g = _decayed(p, g, options)
        square = state["square_avg"] * rho + g * g * (1 - rho)
        delta = sqrt(state["acc_delta"] + eps) / sqrt(square + eps) * g
        return p - lr * delta, {"square_avg": square, "acc_delta": state["acc_delta"] * rho + delta * delta * (1 - rho)}


class Lion(Optimizer):
    """The sign of an average of gradients (Chen and others, Symbolic Discovery of Optimization Algorithms, 2023)."""

    slots: ClassVar[tuple[str, ...]] = ("exp_avg",)

    def __init__(
        self, lr: Rate = 1e-4, betas: tuple[float, float] = (0.9, 0.99), weight_decay: float = 0.0, **shared: Any
    ) -> None:
        super().__init__(lr, {"betas": betas, "weight_decay": weight_decay}, **shared)

    def update(
        self, p: Tensor, g: Tensor, state: dict[str, Tensor], lr: Tensor, step: Tensor, options: Options
    ) -> tuple[Tensor, dict[str, Tensor]]:
        beta1, beta2 = (float(b) for b in options["betas"])
        m = state["exp_avg"]
        direction = sign(m * beta1 + g * (1 - beta1))
        if options["weight_decay"]:
            direction = direction + p * float(options["weight_decay"])
        return p - lr * direction, {"exp_avg": m * beta2 + g * (1 - beta2)}
