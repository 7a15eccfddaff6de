"""From the same parameters and batches, dlcore follows PyTorch: gradients, then a hundred steps of the loss."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import dlcore as dl
from dlcore import nn, optim

torch = pytest.importorskip("torch")

from tests.zoo import GPT, token_loss  # noqa: E402

STEPS = 100


class TorchBlock(torch.nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.ln1, self.ln2 = torch.nn.LayerNorm(width), torch.nn.LayerNorm(width)
        self.qkv, self.proj = torch.nn.Linear(width, 3 * width), torch.nn.Linear(width, width)
        self.fc1, self.fc2 = torch.nn.Linear(width, 4 * width), torch.nn.Linear(4 * width, width)

    def forward(self, x: Any) -> Any:
        b, t, c = x.shape
        q, k, v = self.qkv(self.ln1(x)).reshape(b, t, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        h = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.proj(h.permute(0, 2, 1, 3).reshape(b, t, c))
        return x + self.fc2(torch.nn.functional.gelu(self.fc1(self.ln2(x))))


class TorchGPT(torch.nn.Module):
    def __init__(
        self, vocabulary: int = 65, tokens: int = 16, width: int = 32, heads: int = 4, layers: int = 2
    ) -> None:
        super().__init__()
        self.token, self.position = torch.nn.Embedding(vocabulary, width), torch.nn.Embedding(tokens, width)
        self.blocks = torch.nn.Sequential(*[TorchBlock(width, heads) for _ in range(layers)])
        self.ln, self.head = torch.nn.LayerNorm(width), torch.nn.Linear(width, vocabulary, bias=False)

    def forward(self, ids: Any) -> Any:
        return self.head(self.ln(self.blocks(self.token(ids) + self.position(torch.arange(ids.shape[1])))))


def sequential(n: Any) -> dict[str, Any]:
    return {
        "mlp": lambda: n.Sequential(n.Linear(20, 64), n.ReLU(), n.Linear(64, 64), n.ReLU(), n.Linear(64, 2)),
        "cnn": lambda: n.Sequential(
            n.Conv2d(1, 8, 3, padding=1),
            n.BatchNorm2d(8),
            n.ReLU(),
            n.MaxPool2d(2),
            n.Conv2d(8, 16, 3, padding=1),
            n.BatchNorm2d(16),
            n.ReLU(),
            n.MaxPool2d(2),
            n.Flatten(),
            n.Linear(16 * 36, 10),
        ),
    }


def batches(name: str, rng: np.random.Generator) -> tuple[Any, Any]:
    if name == "mlp":
        x = rng.standard_normal((32, 20)).astype(np.float32)
        return x, (x[:, 0] * x[:, 1] > 0).astype(np.int64)
    if name == "cnn":
        y = rng.integers(0, 10, 16)
        x = rng.standard_normal((16, 1, 24, 24)).astype(np.float32)
        x[np.arange(16), 0, y, :] += 2
        return x, y
    ids = (rng.integers(0, 65, (4, 1)) + np.arange(17) * rng.integers(1, 4, (4, 1))) % 65
    return ids[:, :-1].copy(), ids[:, 1:].copy()


def torch_loss(name: str, logits: Any, y: Any) -> Any:
    return torch.nn.functional.cross_entropy(logits.reshape(-1, logits.shape[-1]), y.reshape(-1))


def pair(name: str) -> tuple[nn.Module, Any]:
    torch.manual_seed(0)
    dl.seed(0)
    ours, theirs = (GPT(), TorchGPT()) if name == "gpt" else (sequential(nn)[name](), sequential(torch.nn)[name]())
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


@pytest.mark.parametrize("name", ["mlp", "cnn", "gpt"])
def test_state_dict_moves_both_ways(name: str) -> None:
    ours, theirs = pair(name)
    back = {k: torch.tensor(np.asarray(v)) for k, v in ours.state_dict().items()}
    assert list(back) == list(theirs.state_dict())
    for k, v in theirs.state_dict().items():
        assert torch.equal(back[k], v), k
        assert back[k].dtype == v.dtype, k
    theirs.load_state_dict(back)


@pytest.mark.parametrize("name", ["mlp", "cnn", "gpt"])
def test_gradients(name: str) -> None:
    ours, theirs = pair(name)
    x, y = batches(name, np.random.default_rng(0))
    loss = token_loss if name == "gpt" else nn.functional.cross_entropy
    with dl.training():
        value, grads = dl.value_and_grad(lambda m, x, y: loss(m(x), y))(ours, dl.tensor(x), dl.tensor(y))
    want = torch_loss(name, theirs(torch.tensor(x)), torch.tensor(y))
    want.backward()
    assert abs(float(value.numpy()) - float(want)) < 1e-5 * abs(float(want))
    for key, p in theirs.named_parameters():
        g, w = np.asarray(grads[key]), p.grad.numpy()
        # A bias before a batch norm has no gradient but rounding: judged against its layer's weight.
        norm = max(
            np.linalg.norm(w),
            1e-2 * np.linalg.norm(dict(theirs.named_parameters())[key.replace("bias", "weight")].grad),
        )
        assert np.linalg.norm(g - w) < 1e-4 * norm, key


OPTIMIZERS: dict[str, tuple[Callable[[], optim.Optimizer], Callable[[Any], Any]]] = {
    "sgd": (lambda: optim.SGD(lr=0.02, momentum=0.9), lambda p: torch.optim.SGD(p, lr=0.02, momentum=0.9)),
    "adamw": (lambda: optim.AdamW(lr=1e-3), lambda p: torch.optim.AdamW(p, lr=1e-3)),
}


@pytest.mark.parametrize("name", ["mlp", "cnn", "gpt"])
@pytest.mark.parametrize("which", list(OPTIMIZERS))
def test_training_curve(name: str, which: str) -> None:
    ours, theirs = pair(name)
    optimizer, torch_optimizer = OPTIMIZERS[which][0](), OPTIMIZERS[which][1](theirs.parameters())
    loss = token_loss if name == "gpt" else nn.functional.cross_entropy

    @dl.train_step(ours, optimizer)
    def step(x: dl.Tensor, y: dl.Tensor) -> dl.Tensor:
        return loss(ours(x), y)

    rng = np.random.default_rng(0)
    losses = []
    for i in range(STEPS):
        x, y = batches(name, rng)
        torch_optimizer.zero_grad()
        want = torch_loss(name, theirs(torch.tensor(x)), torch.tensor(y))
        want.backward()
        torch_optimizer.step()
        got = float(np.asarray(step(x, y)))
        losses.append(got)
        assert abs(got - float(want)) <= 1e-3 * abs(float(want)), f"step {i}: {got}, PyTorch {float(want)}"
    assert np.mean(losses[-20:]) < np.mean(losses[:20])
    for key, value in theirs.state_dict().items():
        if name == "cnn" and key in ("0.bias", "4.bias", "1.running_mean", "5.running_mean"):
            continue  # a bias before a batch norm: its gradient is rounding alone, which Adam divides by itself
        np.testing.assert_allclose(np.asarray(ours.state_dict()[key]), value.numpy(), rtol=1e-2, atol=2e-3, err_msg=key)
