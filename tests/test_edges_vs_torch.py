"""Values and slopes where a function bends, saturates or ends, against PyTorch."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import dlcore as dl
from dlcore import nn, optim

torch = pytest.importorskip("torch")
ours, theirs = nn.functional, torch.nn.functional


def slopes(f: Callable[..., Any], *xs: Any) -> tuple[Any, list[Any]]:
    """f's value, and the gradient of its sum by each of xs."""
    tensors = [dl.tensor(x) for x in xs]
    _, gradients = dl.value_and_grad(lambda *t: f(*t).sum(), argnums=tuple(range(len(xs))))(*tensors)
    return np.asarray(f(*tensors)), [np.asarray(g) for g in gradients]


def torch_slopes(f: Callable[..., Any], *xs: Any) -> tuple[Any, list[Any]]:
    tensors = [torch.tensor(x, requires_grad=True) for x in xs]
    y = f(*tensors)
    y.sum().backward()
    return y.detach().numpy(), [t.grad.numpy() for t in tensors]


def same(mine: Callable[..., Any], other: Callable[..., Any], *xs: Any, tolerance: float = 2e-6) -> None:
    got, want = slopes(mine, *xs), torch_slopes(other, *xs)
    np.testing.assert_allclose(got[0], want[0], rtol=tolerance, atol=1e-7, err_msg="value")
    for i, (g, w) in enumerate(zip(got[1], want[1], strict=True)):
        np.testing.assert_allclose(g, w, rtol=tolerance, atol=1e-7, err_msg=f"gradient of input {i}")


POINTS = np.array([0.0, -0.0, 1, -1, 3, -3, 6, -6, 20, -20, 88, -88, 200, -200, 1e-30, -1e-30, 1e30, -1e30], np.float32)
ENDS = np.array([math.inf, -math.inf, math.nan], np.float32)
ACTIVATIONS = [
    "relu", "relu6", "leaky_relu", "elu", "selu", "gelu", "silu", "mish", "logsigmoid", "softplus", "softsign",
    "hardtanh", "hardswish", "hardsigmoid", "sigmoid", "tanh",
]  # fmt: skip


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_where_it_bends(name: str) -> None:
    double = POINTS.astype(float)  # some of PyTorch's float32 forms are coarse
    got, want = slopes(getattr(ours, name), POINTS), torch_slopes(getattr(theirs, name), double)
    np.testing.assert_allclose(got[0], want[0], rtol=2e-6, atol=1e-20)
    np.testing.assert_allclose(got[1][0], want[1][0], rtol=5e-6, atol=1e-7)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_at_the_ends(name: str) -> None:
    got, want = np.asarray(getattr(ours, name)(dl.tensor(ENDS))), getattr(theirs, name)(torch.tensor(ENDS)).numpy()
    if name in ("gelu", "silu"):  # PyTorch: infinity times 0
        want = np.array([math.inf, 0, math.nan])
    np.testing.assert_allclose(got, want, rtol=1e-6)


def test_clip_at_its_bounds() -> None:
    x = np.array([-2, -1, -0.5, 0.5, 2, 3], np.float32)
    same(lambda t: dl.clip(t, -1, 2), lambda t: torch.clamp(t, -1, 2), x)
    same(lambda t: dl.clip(t, None, 2.0), lambda t: torch.clamp(t, max=2.0), x)
    same(lambda t: dl.clip(t, 2.0, -1.0), lambda t: torch.clamp(t, 2.0, -1.0), x)
    same(lambda t: dl.clip(t, math.nan, 1.0), lambda t: torch.clamp(t, math.nan, 1.0), x)
    low, high = np.full(6, -1, np.float32), np.array([0, 1, -0.5, 0.25, 1, 3], np.float32)
    same(dl.clip, torch.clamp, x, low, high)
    x[3] = high[4] = low[5] = math.nan
    np.testing.assert_array_equal(dl.clip(x, low, high), torch.clamp(*map(torch.tensor, (x, low, high))))


@pytest.mark.parametrize("name", ["l1_loss", "mse_loss", "smooth_l1_loss", "huber_loss"])
def test_distance_where_it_bends(name: str) -> None:
    y = np.zeros(6, np.float32)
    x = np.array([0, 1, -1, 2, -0.5, 1e-20], np.float32)
    same(*(lambda a, b, n=n: getattr(n, name)(a, b, reduction="none") for n in (ours, theirs)), x, y)


def bce(n: Any, as_tensor: Callable[[Any], Any], weight: Any = None) -> Callable[[Any, Any], Any]:
    w = None if weight is None else as_tensor(weight)
    return lambda p, y: n.binary_cross_entropy(p, y, weight=w, reduction="none")


@pytest.mark.parametrize("weight", [None, np.linspace(0.5, 2, 11).astype(np.float32)])
def test_binary_cross_entropy_of_certain_predictions(weight: Any) -> None:
    p = np.array([1, 1, 0, 0, 0.5, 0.25, 1e-40, 1e-40, 1e-13, 1 - 2.0**-24, 1e-7], np.float32)
    y = np.array([1, 0, 0, 1, 1, 0.3, 1, 0, 0.5, 1, 0], np.float32)
    mine, other = bce(ours, dl.tensor, weight), bce(theirs, torch.tensor, weight)
    same(lambda a: mine(a, dl.tensor(y)), lambda a: other(a, torch.tensor(y)), p)
    if weight is None:
        same(mine, other, p[4:6], y[4:6])
    logits = np.array([200, 20, -200, 1, -20, 200, -20, 16, -17, 0, 5], np.float32)
    labels = np.array([1, 1, 0, 1, 1, 0, 0, 0, 1, 0, 1], np.float32)
    same(
        lambda z: mine(ours.sigmoid(z), dl.tensor(labels)),
        lambda z: other(torch.sigmoid(z), torch.tensor(labels)),
        logits,
    )


def test_binary_cross_entropy_bends_as_its_formula_says() -> None:
    p, y = np.array([0.2, 0.7, 0.9]), np.array([0.0, 1.0, 0.25])
    slope = dl.grad(lambda a: ours.binary_cross_entropy(a, dl.tensor(y, dl.float64), reduction="sum"))
    bend = dl.grad(lambda a: slope(a).sum())(dl.tensor(p, dl.float64))
    np.testing.assert_allclose(np.asarray(bend), y / p**2 + (1 - y) / (1 - p) ** 2, rtol=1e-12)


def test_training_on_certain_predictions_stays_finite() -> None:
    model = nn.Sequential(nn.Linear(1, 1), nn.Sigmoid())
    model.load_state_dict({"0.weight": np.array([[100.0]], np.float32), "0.bias": np.zeros(1, np.float32)})
    loss_of = nn.BCELoss()

    @dl.train_step(model, optim.SGD(lr=0.1))
    def step(x: Any, y: Any) -> Any:
        return loss_of(model(x), y)

    x, y = np.array([[3.0], [-3.0], [0.01]], np.float32), np.array([[1.0], [0.0], [1.0]], np.float32)
    losses = [float(step(x, y)) for _ in range(5)]
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0]


def test_other_losses_where_they_bend() -> None:
    a = np.array([[1, 0], [1, 0], [0, 0]], np.float32)
    b = np.array([[0, 1], [1, 0], [1, 1]], np.float32)
    for sign in (1, -1):
        target = np.full(3, sign, np.int64)
        for margin in (0.0, 0.5):
            same(
                lambda u, v: ours.cosine_embedding_loss(u, v, dl.tensor(target), margin, reduction="none"),  # noqa: B023
                lambda u, v: theirs.cosine_embedding_loss(u, v, torch.tensor(target), margin, reduction="none"),  # noqa: B023
                a, b,
            )  # fmt: skip
    same(
        lambda u, v, w: ours.triplet_margin_loss(u, v, w, reduction="none"),
        lambda u, v, w: theirs.triplet_margin_loss(u, v, w, reduction="none"),
        a, a, b,
    )  # fmt: skip
    logits = np.array([0, -0.0, 100, -100, 1e4, -1e4], np.float32)
    for y in (0.0, 1.0, 0.5):
        t = np.full(6, y, np.float32)
        same(
            lambda z: ours.binary_cross_entropy_with_logits(z, dl.tensor(t), reduction="none"),  # noqa: B023
            lambda z: theirs.binary_cross_entropy_with_logits(z, torch.tensor(t), reduction="none"),  # noqa: B023
            logits,
        )
    x, t = np.array([-1, 0, -100, -2], np.float32), np.array([0, 1, 0, 0.5], np.float32)
    same(
        lambda z: ours.kl_div(z, dl.tensor(t), reduction="none"),
        lambda z: theirs.kl_div(z, torch.tensor(t), reduction="none"),
        x,
    )


REDUCTIONS: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "max of all": (lambda t: t.max(), lambda t: t.max()),
    "amax": (lambda t: t.max(1), lambda t: torch.amax(t, 1)),
    "amin": (lambda t: t.min(1), lambda t: torch.amin(t, 1)),
    "prod": (lambda t: dl.prod(t, 1), lambda t: t.prod(1)),
    "norm": (lambda t: dl.norm(t, 1), lambda t: torch.linalg.vector_norm(t, dim=1)),
    "normalize": (lambda t: ours.normalize(t, axis=1), lambda t: theirs.normalize(t, dim=1)),
    "logsumexp": (lambda t: dl.logsumexp(t, 1), lambda t: torch.logsumexp(t, 1)),
    "abs": (lambda t: dl.abs(t), lambda t: t.abs()),
    "maximum": (lambda t: dl.maximum(t, 0.0), lambda t: torch.maximum(t, torch.zeros(()))),
    "power 2": (lambda t: t**2, lambda t: t**2),
    "power 0": (lambda t: t**0, lambda t: t**0),
    "power 1.5": (lambda t: dl.abs(t) ** 1.5, lambda t: t.abs() ** 1.5),
    "std": (lambda t: t.std(1), lambda t: t.std(1, unbiased=False)),
}


for _p in (0.5, 1, 3, math.inf):
    REDUCTIONS[f"norm of p {_p}"] = (
        lambda t, p=_p: dl.norm(t, 1, p),  # type: ignore[misc]
        lambda t, p=_p: torch.linalg.vector_norm(t, p, dim=1),  # type: ignore[misc]
    )


@pytest.mark.parametrize("name", list(REDUCTIONS))
def test_reduction_of_ties_and_zeros(name: str) -> None:
    x = np.array([[0, 0, 0, 0], [1, 2, 2, -1], [-3, 0, 4, -3], [5, 0, 0, 5]], np.float32)
    same(*REDUCTIONS[name], x)


def test_norm_of_p_0_counts() -> None:
    x = np.array([[0, -0.0, 2, math.nan], [0, 0, 0, 0]], np.float32)
    np.testing.assert_array_equal(dl.norm(x, 1, p=0), np.linalg.norm(x, 0, axis=1))
