"""Optimizers and schedules against PyTorch: the same parameters after ten steps on the same batches."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import dlcore as dl
from dlcore import nn, optim, schedule

torch = pytest.importorskip("torch")

RNG = np.random.default_rng(0)
BATCHES = [
    (RNG.standard_normal((8, 5)).astype(np.float32), RNG.standard_normal((8, 2)).astype(np.float32)) for _ in range(10)
]


def network(n: Any) -> Any:
    return n.Sequential(n.Linear(5, 7), n.Tanh(), n.Linear(7, 2))


def pair() -> tuple[nn.Module, Any]:
    torch.manual_seed(0)
    ours, theirs = network(nn), network(torch.nn)
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def ours_trained(model: nn.Module, optimizer: optim.Optimizer) -> None:
    @dl.train_step(model, optimizer)
    def step(x: dl.Tensor, y: dl.Tensor) -> dl.Tensor:
        return nn.functional.mse_loss(model(x), y)

    for x, y in BATCHES:
        step(x, y)


def theirs_trained(model: Any, optimizer: Any, scheduler: Any = None, clip: float | None = None) -> None:
    for x, y in BATCHES:
        optimizer.zero_grad()
        torch.nn.functional.mse_loss(model(torch.tensor(x)), torch.tensor(y)).backward()
        if clip:
            torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        if scheduler:
            scheduler.step()


def agree(ours: nn.Module, theirs: Any, tolerance: float = 2e-5) -> None:
    for name, value in theirs.state_dict().items():
        np.testing.assert_allclose(ours.state_dict()[name], value.numpy(), rtol=tolerance, atol=tolerance, err_msg=name)


CASES: list[tuple[str, dict[str, Any]]] = [
    ("SGD", {"lr": 0.1}),
    ("SGD", {"lr": 0.1, "weight_decay": 0.05}),
    ("SGD", {"lr": 0.1, "momentum": 0.9}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.3, "weight_decay": 0.05}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    ("Adam", {"lr": 0.01}),
    ("Adam", {"lr": 0.01, "betas": (0.8, 0.95), "eps": 1e-6, "weight_decay": 0.05}),
    ("AdamW", {"lr": 0.01}),
    ("AdamW", {"lr": 0.01, "weight_decay": 0.3}),
    ("RMSprop", {"lr": 0.01}),
    ("RMSprop", {"lr": 0.01, "momentum": 0.9, "centered": True, "weight_decay": 0.05}),
    ("Adagrad", {"lr": 0.05, "lr_decay": 0.1, "weight_decay": 0.05}),
    ("Adadelta", {"lr": 1.0, "weight_decay": 0.05}),
]


@pytest.mark.parametrize(("kind", "options"), CASES)
def test_optimizer(kind: str, options: dict[str, Any]) -> None:
    ours, theirs = pair()
    ours_trained(ours, getattr(optim, kind)(**options))
    theirs_trained(theirs, getattr(torch.optim, kind)(theirs.parameters(), **options))
    agree(ours, theirs)


def test_lion() -> None:
    ours, _ = pair()
    p = {n: v.numpy().copy() for n, v in ours.named_parameters()}
    m = {n: np.zeros_like(v) for n, v in p.items()}
    twin, _ = pair()
    f = dl.value_and_grad(lambda model, x, y: nn.functional.mse_loss(model(x), y))
    for x, y in BATCHES:
        twin.load_state_dict(p)
        for n, g in f(twin, x, y)[1].items():
            p[n] = p[n] - np.float32(1e-3) * (np.sign(0.9 * m[n] + 0.1 * g.numpy()) + np.float32(0.1) * p[n])
            m[n] = (0.99 * m[n] + 0.01 * g.numpy()).astype(np.float32)
    ours_trained(ours, optim.Lion(lr=1e-3, weight_decay=0.1))
    for n, v in ours.named_parameters():
        np.testing.assert_allclose(v, p[n], rtol=1e-4, atol=1e-5)


def whole_batch() -> tuple[Any, Any]:
    x = RNG.standard_normal((40, 5)).astype(np.float32)
    return x, np.tanh(x @ RNG.standard_normal((5, 2))).astype(np.float32)


@pytest.mark.parametrize("history", [3, 100])
def test_lbfgs(history: int) -> None:
    (ours, theirs), (x, y) = pair(), whole_batch()
    reference = torch.optim.LBFGS(theirs.parameters(), max_iter=1, history_size=history)
    optimizer = optim.LBFGS(history_size=history)

    def closure() -> Any:
        reference.zero_grad()
        loss = torch.nn.functional.mse_loss(theirs(torch.tensor(x)), torch.tensor(y))
        loss.backward()
        return loss

    step = dl.train_step(ours, optimizer)(lambda x, y: nn.functional.mse_loss(ours(x), y))
    got = np.array([step(x, y).item() for _ in range(15)])
    want = np.array([reference.step(closure).item() for _ in range(15)])
    np.testing.assert_allclose(got, want, rtol=1e-3)
    assert got[-1] < 0.05 * got[0]


def test_lbfgs_goes_on_from_a_checkpoint_and_stops_where_nothing_is_left_to_gain() -> None:
    (ours, _), (twin, _), (x, y) = pair(), pair(), whole_batch()
    loss = nn.functional.mse_loss
    whole, half = optim.LBFGS(history_size=4), optim.LBFGS(history_size=4)
    step = dl.train_step(ours, whole)(lambda x, y: loss(ours(x), y))
    for _ in range(12):
        step(x, y)
    first = dl.train_step(twin, half)(lambda x, y: loss(twin(x), y))
    for _ in range(6):
        first(x, y)
    resumed = optim.LBFGS(history_size=4)
    resumed.load_state_dict({k: np.array(v) for k, v in half.state_dict().items()})
    rest = dl.train_step(twin, resumed)(lambda x, y: loss(twin(x), y))
    for _ in range(6):
        rest(x, y)
    for (name, a), b in zip(ours.named_parameters(), twin.parameters(), strict=True):
        np.testing.assert_array_equal(a, b, err_msg=name)
    exact = np.array(ours(x))  # the loss is 0 there, and so is its gradient
    before = {n: np.array(p) for n, p in ours.named_parameters()}
    assert step(x, exact).item() < 1e-10
    for name, p in ours.named_parameters():
        np.testing.assert_array_equal(p, before[name], err_msg=name)


def test_lbfgs_says_what_it_cannot_do() -> None:
    with pytest.raises(ValueError, match="groups"):
        optim.LBFGS(groups={"*.bias": {"lr": 0.1}})
    with pytest.raises(ValueError, match="history_size"):
        optim.LBFGS(history_size=0)
    (ours, _), (x, y) = pair(), whole_batch()
    optimizer = optim.LBFGS(history_size=2)
    dl.train_step(ours, optimizer)(lambda x, y: nn.functional.mse_loss(ours(x), y))(x, y)
    next(iter(ours.parameters())).requires_grad = False
    with pytest.raises(ValueError, match="one history"):
        dl.train_step(ours, optimizer)(lambda x, y: nn.functional.mse_loss(ours(x), y))(x, y)


def test_clipping() -> None:
    ours, theirs = pair()
    ours_trained(ours, optim.SGD(lr=0.5, clip_norm=0.1))
    theirs_trained(theirs, torch.optim.SGD(theirs.parameters(), lr=0.5), clip=0.1)
    agree(ours, theirs)


def test_accumulation() -> None:
    ours, theirs = pair()
    optimizer = optim.AdamW(lr=0.01, accumulate=2)
    ours_trained(ours, optimizer)
    reference = torch.optim.AdamW(theirs.parameters(), lr=0.01)
    for (a, b), (c, d) in zip(BATCHES[::2], BATCHES[1::2], strict=True):
        reference.zero_grad()
        for x, y in ((a, b), (c, d)):
            (torch.nn.functional.mse_loss(theirs(torch.tensor(x)), torch.tensor(y)) / 2).backward()
        reference.step()
    agree(ours, theirs)
    assert optimizer.steps == 5


def test_averages() -> None:
    ours, theirs = pair()
    optimizer = optim.SGD(lr=0.1, ema=0.8)
    ours_trained(ours, optimizer)
    average = torch.optim.swa_utils.AveragedModel(theirs, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.8))
    average.update_parameters(theirs)
    reference = torch.optim.SGD(theirs.parameters(), lr=0.1)
    for x, y in BATCHES:
        reference.zero_grad()
        torch.nn.functional.mse_loss(theirs(torch.tensor(x)), torch.tensor(y)).backward()
        reference.step()
        average.update_parameters(theirs)
    agree(ours, theirs)
    with optimizer.averaged():
        agree(ours, average.module)
    agree(ours, theirs)
    with pytest.raises(ValueError, match="ema"), optim.SGD().averaged():
        pass


def test_one_cycle_that_begins_at_its_top() -> None:
    rate = schedule.one_cycle(0.1, 10, warm=0.1)  # no step is left to rise in: PyTorch divides by 0
    assert rate(0) == 0.1
    assert rate(1) < 0.1
    assert schedule.one_cycle(0.1, 4, warm=1.0)(9) < 1e-5


def test_groups() -> None:
    ours, theirs = pair()
    ours_trained(
        ours, optim.AdamW(lr=0.01, weight_decay=0.3, groups={"*.bias": {"weight_decay": 0.0}, "2.*": {"lr": 0.002}})
    )
    named = dict(theirs.named_parameters())
    groups = [
        {"params": [p for n, p in named.items() if n.endswith("bias")], "weight_decay": 0.0},
        {"params": [named["2.weight"]], "lr": 0.002},
        {"params": [named["0.weight"]]},
    ]
    theirs_trained(theirs, torch.optim.AdamW(groups, lr=0.01, weight_decay=0.3))
    agree(ours, theirs)
    with pytest.raises(ValueError, match=r"momentum"):
        optim.AdamW(groups={"*": {"momentum": 1}})


S = torch.optim.lr_scheduler
SCHEDULES: dict[str, tuple[schedule.Schedule, Any]] = {
    "constant": (schedule.constant(0.1), lambda o: S.ConstantLR(o, 1.0)),
    "step": (schedule.step(0.1, 3, 0.5), lambda o: S.StepLR(o, 3, 0.5)),
    "multistep": (schedule.multistep(0.1, [2, 5]), lambda o: S.MultiStepLR(o, [2, 5])),
    "exponential": (schedule.exponential(0.1, 0.9), lambda o: S.ExponentialLR(o, 0.9)),
    "cosine": (schedule.cosine(0.1, 12, 0.01), lambda o: S.CosineAnnealingLR(o, 12, 0.01)),
    "one cycle": (schedule.one_cycle(0.1, 12), lambda o: S.OneCycleLR(o, 0.1, 12)),
}


@pytest.mark.parametrize("name", list(SCHEDULES))
def test_schedule(name: str) -> None:
    ours, make = SCHEDULES[name]
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    reference = make(optimizer)
    for n in range(11):
        assert ours(n) == pytest.approx(reference.get_last_lr()[0], rel=1e-6), n
        optimizer.step()
        reference.step()


def test_a_schedule_in_training() -> None:
    ours, theirs = pair()
    ours_trained(ours, optim.SGD(lr=schedule.exponential(0.2, 0.7)))
    reference = torch.optim.SGD(theirs.parameters(), lr=0.2)
    theirs_trained(theirs, reference, torch.optim.lr_scheduler.ExponentialLR(reference, 0.7))
    agree(ours, theirs)


def test_warm_up() -> None:
    rate = schedule.warmup(schedule.cosine(1.0, 10), 4)
    assert [rate(n) for n in range(4)] == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert rate(4) == 1.0
    assert rate(14) == pytest.approx(0.0)


def test_reduce_on_plateau() -> None:
    ours = schedule.ReduceOnPlateau(0.1, factor=0.5, patience=2)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    reference = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=2)
    for value in [1.0, 0.9, 0.95, 0.93, 0.92, 0.91, 0.8, 0.85, 0.85, 0.85, 0.85]:
        ours.update(value)
        reference.step(value)
        assert ours(0) == pytest.approx(optimizer.param_groups[0]["lr"])
    again = schedule.ReduceOnPlateau(0.1, factor=0.5, patience=2)
    again.set_state(ours.get_state())
    assert again(0) == ours(0)
    first, second = optim.SGD(lr=ours), optim.SGD(lr=schedule.ReduceOnPlateau(0.1))
    second.load_state_dict({k: v.numpy() for k, v in first.state_dict().items()})
    assert second.learning_rate() == first.learning_rate()
