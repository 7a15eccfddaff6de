"""Recurrent layers against PyTorch: outputs, last states, every gradient, and states taken over both ways."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import dlcore as dl
from dlcore import nn

torch = pytest.importorskip("torch")

KINDS = {"LSTM": {}, "GRU": {}, "RNN": {}, "RNN relu": {"nonlinearity": "relu"}}
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "no bias": {"bias": False},
    "batch first": {"batch_first": True},
    "bidirectional": {"bidirectional": True},
    "two layers": {"num_layers": 2},
    "all": {"num_layers": 2, "bidirectional": True, "batch_first": True},
}


def close(got: Any, want: Any, what: str, tolerance: float = 2e-5) -> None:
    got, want = np.asarray(got), want.detach().numpy()
    assert got.shape == want.shape, what
    np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance * max(1.0, np.abs(want).max()), err_msg=what)


def flat(output: Any) -> list[Any]:
    """[y, h] or [y, h, c]."""
    y, states = output
    return [y, *states] if isinstance(states, tuple) else [y, states]


def build(kind: str, options: dict[str, Any], sizes: tuple[int, int] = (5, 7)) -> tuple[Any, Any]:
    name, more = kind.split()[0], {**KINDS[kind], **options}
    torch.manual_seed(0)
    return getattr(nn, name)(*sizes, **more), getattr(torch.nn, name)(*sizes, **more)


@pytest.mark.parametrize("given", [False, True], ids=["zero states", "given states"])
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("kind", KINDS)
def test_against_torch(kind: str, variant: str, given: bool) -> None:
    options = VARIANTS[variant]
    ours, theirs = build(kind, options)
    ours.load_state_dict(theirs.state_dict())
    rng = np.random.default_rng(0)
    x = rng.standard_normal((4, 6, 5)).astype(np.float32)
    batch = 4 if options.get("batch_first") else 6
    shape = (options.get("num_layers", 1) * (2 if options.get("bidirectional") else 1), batch, 7)
    states = [rng.standard_normal(shape).astype(np.float32) for _ in range(2 if kind == "LSTM" else 1)] if given else []

    inputs = [torch.tensor(a, requires_grad=True) for a in (x, *states)]
    hx = None if not given else tuple(inputs[1:]) if kind == "LSTM" else inputs[1]
    wanted = flat(theirs(inputs[0], hx))
    seeds = [rng.standard_normal(tuple(w.shape)).astype(np.float32) for w in wanted]
    sum((w * torch.tensor(s)).sum() for w, s in zip(wanted, seeds, strict=True)).backward()

    def loss(model: Any, x: Any, *states: Any) -> Any:
        got = flat(model(x, None if not states else states if kind == "LSTM" else states[0]))
        total = (got[0] * seeds[0]).sum()
        for g, s in zip(got[1:], seeds[1:], strict=True):
            total = total + (g * s).sum()
        return total, got

    f = dl.value_and_grad(loss, argnums=tuple(range(len(inputs) + 1)), has_aux=True)
    (_, got), (by_parameter, *by_input) = f(ours, *(dl.tensor(a) for a in (x, *states)))
    for i, (g, w) in enumerate(zip(got, wanted, strict=True)):
        close(g, w, f"output {i}")
    for i, (g, t) in enumerate(zip(by_input, inputs, strict=True)):
        close(g, t.grad, f"gradient of input {i}", 1e-4)
    for name, p in theirs.named_parameters():
        close(by_parameter[name], p.grad, name, 1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_parameters_go_both_ways(kind: str) -> None:
    ours, theirs = build(kind, VARIANTS["all"])
    assert list(ours.state_dict()) == list(theirs.state_dict())
    theirs.load_state_dict({k: torch.tensor(np.asarray(v)) for k, v in ours.state_dict().items()})
    x = np.random.default_rng(1).standard_normal((2, 3, 5)).astype(np.float32)
    for i, (g, w) in enumerate(zip(flat(ours(dl.tensor(x))), flat(theirs(torch.tensor(x))), strict=True)):
        close(g, w, f"output {i}")


def test_without_a_batch_axis() -> None:
    ours, theirs = build("LSTM", {"bidirectional": True})
    ours.load_state_dict(theirs.state_dict())
    x = np.random.default_rng(2).standard_normal((4, 5)).astype(np.float32)
    for i, (g, w) in enumerate(zip(flat(ours(dl.tensor(x))), flat(theirs(torch.tensor(x))), strict=True)):
        close(g, w, f"output {i}")


def test_dropout_stands_between_layers_only() -> None:
    x = dl.tensor(np.random.default_rng(3).standard_normal((3, 2, 5)).astype(np.float32))
    ours = nn.GRU(5, 7, num_layers=2, dropout=1.0)
    alone = nn.GRU(5, 7)
    alone.load_state_dict({k: v for k, v in ours.state_dict().items() if k.endswith("_l0")})
    with dl.training(True):
        y, h = ours(x)
    np.testing.assert_array_equal(np.asarray(h)[0], np.asarray(alone(x)[1])[0])
    assert not np.allclose(np.asarray(y), np.asarray(ours(x)[0]))


def test_frozen() -> None:
    model = nn.LSTM(5, 7, batch_first=True)
    x = np.random.default_rng(4).standard_normal((6, 4, 5)).astype(np.float32)

    class Last(nn.Module):
        def __init__(self) -> None:
            self.rnn = model

        def forward(self, x: Any) -> Any:
            return self.rnn(x)[0][:, -1]

    program = dl.freeze(Last(), example=x[:2])
    np.testing.assert_allclose(
        np.asarray(program.run(x)), np.asarray(model(dl.tensor(x))[0])[:, -1], rtol=1e-6, atol=1e-6
    )


def test_errors() -> None:
    model = nn.LSTM(5, 7)
    with pytest.raises(ValueError, match=r"\[LSTM\] expected \(T, N, 5\) or \(T, 5\), got \(4, 2, 6\)"):
        model(dl.zeros((4, 2, 6)))
    with pytest.raises(ValueError, match=r"initial state .* of \(1, 2, 7\), got \(1, 3, 7\)"):
        model(dl.zeros((4, 2, 5)), (dl.zeros((1, 3, 7)), dl.zeros((1, 3, 7))))
    with pytest.raises(ValueError, match="nonlinearity must be"):
        nn.RNN(5, 7, nonlinearity="sin")

    def slope(x: Any) -> Any:
        return dl.grad(lambda v: model(v)[0].sum())(x).sum()

    with pytest.raises(ValueError, match="second derivative of lstm is not available"):
        dl.grad(slope)(dl.zeros((4, 2, 5)))
