"""Adam and AdamW (Kingma and Ba, 2015; Loshchilov and Hutter, 2019)."""

from __future__ import annotations

from typing import Any, ClassVar

from dlcore.optim.optimizer import Optimizer, Options, Rate
from dlcore.tensor import Tensor, apply


class Adam(Optimizer):
    """As torch.optim.Adam: weight decay is added to the gradient."""

    slots: ClassVar[tuple[str, ...]] = ("exp_avg", "exp_avg_sq")
    decoupled: ClassVar[bool] = False

    def __init__(
        self, lr: Rate = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8, weight_decay: float = 0.0,
        **shared: Any,
    ) -> None:  # fmt: skip
        super().__init__(lr, {"betas": betas, "eps": eps, "weight_decay": weight_decay}, **shared)

    def update(
        self, p: Tensor, g: Tensor, state: dict[str, Tensor], lr: Tensor, step: Tensor, options: Options
    ) -> tuple[Tensor, dict[str, Tensor]]:
        beta1, beta2 = options["betas"]
        attrs = {
            "beta1": float(beta1), "beta2": float(beta2), "eps": float(options["eps"]),
            "weight_decay": float(options["weight_decay"]), "decoupled": self.decoupled,
        }  # fmt: skip
        new, m, v = apply("adam_update", (p, g, state["exp_avg"], state["exp_avg_sq"], lr, step), attrs)
        return new, {"exp_avg": m, "exp_avg_sq": v}


class AdamW(Adam):
    """As torch.optim.AdamW: weight decay shrinks the parameter itself, by lr·weight_decay."""

    decoupled: ClassVar[bool] = True

    def __init__(
        self, lr: Rate = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8, weight_decay: float = 0.01,
        **shared: Any,
    ) -> None:  # fmt: skip
        super().__init__(lr, betas, eps, weight_decay, **shared)
