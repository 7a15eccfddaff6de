"""compile, grad, value_and_grad and train_step; modules as trees; what updates, what is fixed, and what is said."""

from __future__ import annotations

import copy
import subprocess
import sys
import threading
import warnings
from typing import Any

import numpy as np
import pytest

import dlcore as dl
from dlcore import nn, optim, schedule
from dlcore.trace import Trace

RNG = np.random.default_rng(0)
X = RNG.standard_normal((8, 4)).astype(np.float32)
LABELS = np.arange(8) % 3


def small() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))


# compile
def test_compile_gives_what_eager_gives() -> None:
    def f(x: dl.Tensor, more: dict[str, Any], k: int, scale: float = 1.0) -> Any:
        y = (x @ more["w"])[:, :k] * scale
        return {"y": y, "rest": (y.sum(0), [k, "text", None])}

    args = (dl.tensor(X), {"w": X.T}, 3)
    eager, compiled = f(args[0], {"w": dl.tensor(X.T)}, 3, scale=0.5), dl.compile(f)(*args, scale=0.5)
    np.testing.assert_allclose(compiled["y"], eager["y"], rtol=1e-6)
    np.testing.assert_allclose(compiled["rest"][0], eager["rest"][0], rtol=1e-6, atol=1e-6)
    assert compiled["rest"][1] == [3, "text", None]


def test_one_program_a_signature() -> None:
    traced = 0

    @dl.compile
    def f(x: dl.Tensor, scale: float, flag: bool = True) -> dl.Tensor:
        nonlocal traced
        traced += 1
        return x * scale if flag else -x

    for scale in (1.0, 2.0, 3.0):
        np.testing.assert_allclose(f(X, scale), X * np.float32(scale))
    assert traced == 1
    f(X[:3], 1.0)
    f(X.astype(np.int32), 1.0)
    f(X, 1.0, flag=False)
    assert traced == 4
    with dl.training():
        f(X, 1.0)
    assert traced == 5


def test_many_signatures_are_warned_of() -> None:
    f = dl.compile(lambda x: x + 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for n in range(1, 9):
            f(X[:1].repeat(n, 0))
        with pytest.raises(UserWarning, match=r"9 different signatures.*\(9, 4\)"):
            f(X[:1].repeat(9, 0))


def test_inputs_and_parameters_may_be_results() -> None:
    p = nn.Parameter(X)

    def f(x: dl.Tensor) -> Any:
        p.assign(p + 1)
        return x, p, x

    a, b, c = dl.compile(f)(X)
    np.testing.assert_array_equal(a, X)
    np.testing.assert_array_equal(c, X)
    np.testing.assert_array_equal(b, X + 1)
    np.testing.assert_array_equal(p, X + 1)


def test_assignments_are_read_back_in_order() -> None:
    b = nn.Buffer([1.0])

    def f() -> Any:
        before = b * 1
        b.assign(b * 3)
        between = b * 1
        b.assign(b + 1)
        return before, between

    first, second = dl.compile(f)()
    assert (first.item(), second.item(), b.item()) == (1.0, 3.0, 4.0)


def test_a_method_and_a_module() -> None:
    model = small()

    class Holder:
        @dl.compile
        def run(self, x: dl.Tensor) -> dl.Tensor:
            return model(x)

    want = model(dl.tensor(X))
    np.testing.assert_allclose(Holder().run(X), want, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(dl.compile(model)(X), want, rtol=1e-5, atol=1e-6)


def test_unhashable_arguments() -> None:
    with pytest.raises(TypeError, match="set"):
        dl.compile(lambda x, s: x)(X, {1})


def test_the_layer_is_named_in_the_graph_and_in_errors() -> None:
    model = nn.Sequential(nn.Linear(4, 6), nn.Sequential(nn.ReLU(), nn.Linear(5, 3)))
    for call in (model, dl.compile(model)):
        with pytest.raises(ValueError, match=r"\[linear\].*\(8, 6\).*in layer '1\.1'"):
            call(dl.tensor(X))
    model = small()
    with Trace() as t:
        model(dl.Tensor(None, t, t.input("x", "f32", (8, 4))))
    assert {where for *_, where in t.graph.nodes()} == {"0", "1", "2"}
    assert [name for role, name, _ in t.graph.leaves() if role == "param"] == [
        "0.weight",
        "0.bias",
        "2.weight",
        "2.bias",
    ]


def test_traces_of_threads_are_apart() -> None:
    results: dict[int, Any] = {}

    def work(n: int) -> None:
        results[n] = dl.compile(lambda x: (x * n).sum())(X).item()

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    for n in range(4):
        assert results[n] == pytest.approx(float(X.sum()) * n, rel=1e-4, abs=1e-5)


def test_modules_are_made_before() -> None:
    with Trace(), pytest.raises(dl.TraceError, match="before the call"):
        small()


# grad
def test_gradients_of_arguments() -> None:
    def f(a: dl.Tensor, b: dl.Tensor) -> dl.Tensor:
        return (a * a * b).sum()

    a, b = X, X + 2
    np.testing.assert_allclose(dl.grad(f)(a, b), 2 * a * b, rtol=1e-5)
    ga, gb = dl.grad(f, argnums=(0, 1))(a, b)
    np.testing.assert_allclose(gb, a * a, rtol=1e-5)
    np.testing.assert_allclose(ga, 2 * a * b, rtol=1e-5)
    value, g = dl.value_and_grad(f, argnums=1)(a, b)
    np.testing.assert_allclose(value, (a * a * b).sum(), rtol=1e-5)
    np.testing.assert_allclose(g, gb)
    tree = dl.grad(lambda d: f(d["a"], d["more"][0]))({"a": a, "more": [b]})
    np.testing.assert_allclose(tree["more"][0], gb)
    g, aux = dl.grad(lambda x: ((x**2).sum(), x + 1), has_aux=True)(a)
    np.testing.assert_allclose(aux, a + 1)
    np.testing.assert_allclose(g, 2 * a)


def test_nested_gradients() -> None:
    def f(x: dl.Tensor) -> dl.Tensor:
        return dl.sum(dl.exp(x) * x * x)

    def penalty(x: dl.Tensor) -> dl.Tensor:
        return (dl.grad(f)(x) ** 2).sum()

    e = np.exp(X)
    first, second = e * (X * X + 2 * X), e * (X * X + 4 * X + 2)
    np.testing.assert_allclose(dl.grad(f)(X), first, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(dl.grad(penalty)(X), 2 * first * second, rtol=1e-3, atol=1e-3)
    third = dl.grad(lambda x: dl.grad(lambda x: dl.grad(lambda x: (x**4).sum())(x).sum())(x).sum())(X)
    np.testing.assert_allclose(third, 24 * X, rtol=1e-4, atol=1e-4)


def test_only_uses_inside_count() -> None:
    def outer(x: dl.Tensor) -> dl.Tensor:
        y = x * 3
        return dl.grad(lambda z: (z * y).sum())(x).sum() + (x * 0).sum()

    assert dl.compile(outer)(X).item() == pytest.approx(3 * X.sum(), rel=1e-5)
    np.testing.assert_allclose(dl.grad(outer)(X), np.full_like(X, 3))


def test_gradients_of_a_module() -> None:
    model = small()

    def f(m: nn.Module, x: dl.Tensor) -> dl.Tensor:
        return (m(x) ** 2).mean()

    _, grads = dl.value_and_grad(f)(model, X)
    assert list(grads) == ["0.weight", "0.bias", "2.weight", "2.bias"]
    weight = dict(model.named_parameters())["2.weight"]
    held = weight.numpy().copy()
    for at in ((0, 0), (2, 5)):
        sides = []
        for step in (1e-2, -1e-2):
            moved = held.copy()
            moved[at] += step
            weight.assign(moved)
            sides.append(f(model, dl.tensor(X)).item())
        weight.assign(held)
        assert grads["2.weight"].numpy()[at] == pytest.approx((sides[0] - sides[1]) / 2e-2, rel=1e-2, abs=1e-4)
    model[0].requires_grad_(False)
    assert list(dl.grad(f)(model, X)) == ["2.weight", "2.bias"]
    # A gradient penalty: the gradient by x, differentiated by the parameters.
    penalty = dl.grad(lambda m: (dl.grad(lambda x: m(x).sum())(dl.tensor(X)) ** 2).sum())(model)
    assert np.isfinite(penalty["2.weight"].numpy()).all()
    assert np.abs(penalty["2.weight"].numpy()).max() > 0


def test_double_precision() -> None:
    model = small().astype("float64")
    x = dl.tensor(X, dtype="float64")
    value, grads = dl.value_and_grad(lambda m, x: (m(x) ** 2).sum())(model, x)
    assert value.dtype == "float64"
    assert grads["0.bias"].dtype == np.float64


def test_what_has_no_gradient() -> None:
    with pytest.raises(ValueError, match=r"scalar.*\(8, 4\)"):
        dl.grad(lambda x: x * 2)(X)
    with pytest.raises(TypeError, match="int64"):
        dl.grad(lambda x: x.sum())(np.arange(3))
    with pytest.raises(IndexError, match="argnums 1"):
        dl.grad(lambda x: x.sum(), argnums=1)(X)
    with pytest.raises(TypeError, match="tensor"):
        dl.grad(lambda x: 1.0)(X)
    np.testing.assert_array_equal(dl.grad(lambda x: dl.ones(3).sum())(X), np.zeros_like(X))
    np.testing.assert_array_equal(dl.grad(lambda x: (x * x.detach()).sum())(X), X)


# train_step
def trained(model: nn.Module, optimizer: optim.Optimizer, steps: int) -> list[float]:
    @dl.train_step(model, optimizer)
    def step(x: dl.Tensor, y: dl.Tensor) -> dl.Tensor:
        return nn.functional.cross_entropy(model(x), y)

    return [step(X, LABELS).item() for _ in range(steps)]


def test_training_learns_and_keeps_memory() -> None:
    dl.seed(0)
    model = small()
    addresses = [p.core.data_ptr for p in model.parameters()]
    losses = trained(model, optim.AdamW(lr=0.1), 60)
    assert losses[-1] < 0.1 < losses[0]
    assert addresses == [p.core.data_ptr for p in model.parameters()]


def test_loss_and_more_is_returned() -> None:
    model = small()

    @dl.train_step(model, optim.SGD(lr=0.1))
    def step(x: dl.Tensor, y: dl.Tensor) -> Any:
        logits = model(x)
        return nn.functional.cross_entropy(logits, y), {"logits": logits}

    want = model(dl.tensor(X))
    loss, more = step(X, LABELS)
    assert loss.shape == ()
    np.testing.assert_allclose(more["logits"], want, rtol=1e-5, atol=1e-6)


def test_fixed_parameters_stay() -> None:
    model = small()
    model[0].requires_grad_(False)
    before = {k: v.numpy().copy() for k, v in model.state_dict().items()}
    optimizer = optim.SGD(lr=0.1)

    @dl.train_step(model, optimizer)
    def step(x: dl.Tensor, y: dl.Tensor) -> dl.Tensor:
        return nn.functional.cross_entropy(model(x), y)

    step(X, LABELS)
    after = model.state_dict()
    assert all(np.array_equal(before[k], after[k].numpy()) == k.startswith("0.") for k in before)
    model[0].requires_grad_(True)  # noticed by the next step
    step(X, LABELS)
    assert not np.array_equal(before["0.weight"], model.state_dict()["0.weight"].numpy())


def test_changed_layers_are_noticed() -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.0))

    @dl.compile
    def run(x: dl.Tensor) -> dl.Tensor:
        return model(x)

    with dl.training():
        want = run(X).numpy()
        model[1].p = 1.0
        assert want.any()
        assert not run(X).numpy().any()


def test_training_mode_is_the_steps_own() -> None:
    dl.seed(0)
    model = nn.Sequential(nn.Linear(4, 64), nn.BatchNorm1d(64), nn.Dropout(0.5), nn.Linear(64, 3))
    outputs = []

    @dl.train_step(model, optim.SGD(lr=0.0))
    def step(x: dl.Tensor, y: dl.Tensor) -> Any:
        logits = model(x)
        return nn.functional.cross_entropy(logits, y), logits

    for _ in range(2):
        outputs.append(step(X, LABELS)[1].numpy())
    assert not np.allclose(outputs[0], outputs[1])  # another mask
    assert model[1].num_batches_tracked.item() == 2
    a, b = model(dl.tensor(X)).numpy(), model(dl.tensor(X)).numpy()
    assert np.array_equal(a, b)
    assert not dl.is_training()


def test_wrong_steps() -> None:
    model = small()
    with pytest.raises(TypeError, match="optimizer"):
        dl.train_step(model, model)(lambda x: x)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="scalar"):
        dl.train_step(model, optim.SGD())(lambda x: model(x))(X)
    with pytest.raises(ValueError, match="no parameter"):
        dl.train_step(model, optim.SGD())(lambda x: x.sum())(X)
    with pytest.raises(TypeError, match="return a loss"):
        dl.train_step(model, optim.SGD())(lambda x: None)(X)


def test_checkpoints_go_on_with_the_same_bits() -> None:
    def build() -> tuple[nn.Module, optim.Optimizer]:
        dl.seed(0)
        model = nn.Sequential(nn.Linear(4, 16), nn.Dropout(0.3), nn.Linear(16, 3))
        return model, optim.AdamW(lr=schedule.cosine(0.05, 20), accumulate=2, ema=0.9)

    model, optimizer = build()
    want = trained(model, optimizer, 10)
    model, optimizer = build()
    first = trained(model, optimizer, 5)
    saved = (
        {k: v.numpy().copy() for k, v in model.state_dict().items()},
        {k: v.numpy().copy() for k, v in optimizer.state_dict().items()},
        dl.random.get_state(),
    )
    model, optimizer = build()
    model.load_state_dict(saved[0])
    optimizer.load_state_dict(saved[1])
    dl.random.set_state(saved[2])
    assert first + trained(model, optimizer, 5) == want


# modules
class Tied(nn.Module):
    def __init__(self) -> None:
        self.table = nn.Embedding(5, 3)
        self.heads = [nn.Linear(3, 5, bias=False), nn.Linear(3, 2)]
        self.heads[0].weight = self.table.weight
        self.named = {"a": nn.Linear(2, 2)}
        self.register_buffer("scale", [2.0])

    def forward(self, i: dl.Tensor) -> dl.Tensor:
        return self.heads[0](self.table(i)) * self.scale


def test_discovery() -> None:
    model = Tied()
    assert [n for n, _ in model.named_parameters()] == [
        "table.weight", "heads.1.weight", "heads.1.bias", "named.a.weight", "named.a.bias",
    ]  # fmt: skip
    assert "heads.0.weight" in model.state_dict()
    assert [n for n, _ in model.named_buffers()] == ["scale"]
    assert [n for n, _ in model.named_modules()] == ["", "table", "heads.0", "heads.1", "named.a"]
    twin = copy.deepcopy(model)
    assert twin.heads[0].weight is twin.table.weight
    assert twin.table.weight is not model.table.weight
    names: list[str] = []
    model.apply(lambda m: names.append(type(m).__name__))
    assert names == ["Embedding", "Linear", "Linear", "Linear", "Tied"]


def test_loading_reports(capsys: pytest.CaptureFixture[str]) -> None:
    model = small()
    state = {k: v.numpy() for k, v in model.state_dict().items()}
    state["2.weight"] = state["2.weight"][:, :2]
    with pytest.raises(ValueError, match=r"2\.weight.*\(3, 6\).*\(3, 2\)"):
        model.load_state_dict(state)
    state["new"] = state.pop("0.bias")
    with pytest.raises(KeyError, match=r"(?s)missing +0\.bias.*unexpected +new"):
        model.load_state_dict(state)
    state["0.weight"] = state["0.weight"] + 1
    model.load_state_dict(state, strict=False)
    np.testing.assert_array_equal(model[0].weight, state["0.weight"])
    assert "0.bias" in capsys.readouterr().out


def test_containers() -> None:
    row = nn.ModuleList([nn.Linear(2, 2)]).append(nn.ReLU())
    assert (len(row), type(row[-1]), [n for n, _ in row.named_children()]) == (2, nn.ReLU, ["0", "1"])
    named = nn.ModuleDict({"a": nn.ReLU()})
    named["b"] = nn.Tanh()
    assert list(named) == ["a", "b"]
    assert isinstance(named.b, nn.Tanh)
    s = nn.Sequential({"first": nn.Linear(4, 2), "second": nn.ReLU()})
    assert isinstance(s.first, nn.Linear)
    assert s[:1](dl.tensor(X)).shape == (8, 2)
    with pytest.raises(AttributeError, match="third"):
        s.third  # noqa: B018
    with pytest.raises(TypeError, match="int"):
        nn.Sequential(3)  # type: ignore[arg-type]
    with pytest.raises(IndexError):
        s[2]


def test_summary_and_repr(capsys: pytest.CaptureFixture[str]) -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 10))
    model[0].requires_grad_(False)
    text = model.summary((2, 1, 8, 8))
    assert text in capsys.readouterr().out
    assert "(2, 4, 6, 6)" in text
    assert "1,490 parameters" in text
    assert "40 of them fixed" in text
    assert repr(model).splitlines()[1] == "  (0): Conv2d(1, 4, kernel_size=(3, 3), stride=(1, 1))"


def test_importing_is_light() -> None:
    code = "import sys, dlcore; print([m for m in ('rich', 'safetensors', 'matplotlib', 'torch') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_info() -> None:
    found = dl.info()
    assert found["threads"] >= 1
    assert set(found) >= {"version", "isa", "threads", "cuda", "cuda_why_not"}
    dl.set_num_threads(1)
    assert dl.num_threads() == 1
    with pytest.raises(ValueError, match="0"):
        dl.set_num_threads(0)
