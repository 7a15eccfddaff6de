"""Stochastic gradient descent with momentum."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from dlcore.optim.optimizer import Optimizer, Options, Rate
from dlcore.tensor import Tensor, apply, apply1


class SGD(Optimizer):
    """As torch.optim.SGD: m = momentum·m + (1 - dampening)·g, p -= lr·m, g including weight_decay·p."""

    slots: ClassVar[tuple[str, ...]] = ("momentum_buffer",)

    def __init__(
        self, lr: Rate = 1e-3, momentum: float = 0.0, dampening: float = 0.0, weight_decay: float = 0.0,
        nesterov: bool = False, **shared: Any,
    ) -> None:  # fmt: skip
        if nesterov and (momentum <= 0 or dampening != 0):
            raise ValueError("nesterov needs a momentum and no dampening")
        options = {
            "momentum": momentum, "dampening": dampening, "weight_decay": weight_decay, "nesterov": nesterov,
        }  # fmt: skip
        super().__init__(lr, options, **shared)

    def slots_of(self, options: Options) -> Sequence[str]:
        return self.slots if options["momentum"] else ()

    def update(
        self, p: Tensor, g: Tensor, state: dict[str, Tensor], lr: Tensor, step: Tensor, options: Options
    ) -> tuple[Tensor, dict[str, Tensor]]:
        decay = float(options["weight_decay"])
        if not options["momentum"]:
            return apply1("sgd_plain_update", (p, g, lr), {"weight_decay": decay}), {}
        attrs = {
            "momentum": float(options["momentum"]), "dampening": float(options["dampening"]), "weight_decay": decay,
            "nesterov": bool(options["nesterov"]),
        }  # fmt: skip
        new, momentum = apply("sgd_update", (p, g, state["momentum_buffer"], lr, step), attrs)
        return new, {"momentum_buffer": momentum}
