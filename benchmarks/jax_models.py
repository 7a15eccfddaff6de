"""The training step of the benchmarks' MLPs in JAX, jitted, with AdamW written out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


def training_step(state: dict[str, Any], x: Any, y: Any) -> Callable[[], float]:
    """state: weights and biases by the names of torch's Sequential ("0.weight", "2.weight", …)."""
    layers = sorted({int(name.split(".")[0]) for name in state})
    params = [(jnp.asarray(state[f"{i}.weight"]), jnp.asarray(state[f"{i}.bias"])) for i in layers]
    zeros = jax.tree.map(jnp.zeros_like, params)
    xs, ys = jnp.asarray(x), jnp.asarray(y)

    def loss_of(params: Any, x: Any, y: Any) -> Any:
        for w, b in params[:-1]:
            x = jax.nn.relu(x @ w.T + b)
        w, b = params[-1]
        return -jnp.take_along_axis(jax.nn.log_softmax(x @ w.T + b), y[:, None], 1).mean()

    def update(p: Any, g: Any, m: Any, v: Any, t: Any) -> Any:
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        step = m / (1 - 0.9**t) / (jnp.sqrt(v / (1 - 0.999**t)) + 1e-8)
        return p * (1 - 1e-3 * 0.01) - 1e-3 * step, m, v

    @jax.jit
    def step(params: Any, m: Any, v: Any, t: Any, x: Any, y: Any) -> Any:
        loss, gradients = jax.value_and_grad(loss_of)(params, x, y)
        new = jax.tree.map(lambda p, g, m, v: update(p, g, m, v, t), params, gradients, m, v)
        parts = [
            jax.tree.map(lambda n, i=i: n[i], new, is_leaf=lambda n: isinstance(n, tuple) and len(n) == 3)
            for i in range(3)
        ]
        return loss, *parts

    memory = [params, zeros, zeros, jnp.asarray(1.0)]

    def call() -> float:
        loss, *memory[:3] = step(*memory, xs, ys)
        memory[3] = memory[3] + 1
        return float(loss)

    return call
