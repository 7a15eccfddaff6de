"""The models of the benchmarks in dlcore, each with a batch; torch_models.py and jax_models.py are the peers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import dlcore as dl
from dlcore import nn

Array = np.ndarray[Any, Any]


class Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.ln1, self.ln2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: dl.Tensor) -> dl.Tensor:
        b, t, c = x.shape
        h = self.qkv(self.ln1(x)).reshape(b, t, 3, self.heads, c // self.heads).transpose(2, 0, 3, 1, 4)
        h = nn.functional.scaled_dot_product_attention(h[0], h[1], h[2], is_causal=True)
        x = x + self.proj(h.transpose(0, 2, 1, 3).reshape(b, t, c))
        return x + self.fc2(nn.functional.gelu(self.fc1(self.ln2(x))))


class GPT(nn.Module):
    def __init__(
        self, vocabulary: int = 65, tokens: int = 64, width: int = 128, heads: int = 4, layers: int = 4
    ) -> None:
        super().__init__()
        self.token, self.position = nn.Embedding(vocabulary, width), nn.Embedding(tokens, width)
        self.blocks = nn.Sequential(*[Block(width, heads) for _ in range(layers)])
        self.ln, self.head = nn.LayerNorm(width), nn.Linear(width, vocabulary, bias=False)

    def forward(self, ids: dl.Tensor) -> dl.Tensor:
        x = self.token(ids) + self.position(dl.arange(ids.shape[1]))
        return self.head(self.ln(self.blocks(x)))


class Residual(nn.Module):
    """A basic block: two 3×3 convolutions with batch norm around a shortcut."""

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, out, 3, stride=stride, padding=1, bias=False)
        self.bn1, self.bn2 = nn.BatchNorm2d(out), nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1, bias=False)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels != out:
            self.shortcut = nn.Sequential(nn.Conv2d(channels, out, 1, stride=stride, bias=False), nn.BatchNorm2d(out))

    def forward(self, x: dl.Tensor) -> dl.Tensor:
        y = self.bn2(self.conv2(nn.functional.relu(self.bn1(self.conv1(x)))))
        return nn.functional.relu(y + self.shortcut(x))


# Channels in and out, stride of ResNet-18's blocks (He et al., "Deep residual learning for image recognition", 2015).
RESNET18 = [
    (64, 64, 1), (64, 64, 1), (64, 128, 2), (128, 128, 1),
    (128, 256, 2), (256, 256, 1), (256, 512, 2), (512, 512, 1),
]  # fmt: skip


def resnet18(n: Any, block: Any) -> Any:
    """For 32×32 images: a 3×3 convolution first, no pooling before the blocks. `n` is dlcore.nn or torch.nn."""
    first = [n.Conv2d(3, 64, 3, padding=1, bias=False), n.BatchNorm2d(64), n.ReLU()]
    last = [n.AdaptiveAvgPool2d(1), n.Flatten(), n.Linear(512, 10)]
    return n.Sequential(*first, *[block(*sizes) for sizes in RESNET18], *last)


class Sequence(nn.Module):
    """An LSTM over the sequence and a linear layer on its last output."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(32, 128, batch_first=True), nn.Linear(128, 10)

    def forward(self, x: dl.Tensor) -> dl.Tensor:
        return self.head(self.lstm(x)[0][:, -1])


def sequential(n: Any, name: str) -> Any:
    """The Sequential models: `n` is dlcore.nn or torch.nn, whose names agree."""
    if name == "mlp-small":
        return n.Sequential(n.Linear(20, 64), n.ReLU(), n.Linear(64, 64), n.ReLU(), n.Linear(64, 2))
    if name == "mlp":
        return n.Sequential(n.Linear(784, 256), n.ReLU(), n.Linear(256, 128), n.ReLU(), n.Linear(128, 10))
    return n.Sequential(
        n.Conv2d(1, 32, 3, padding=1),
        n.ReLU(),
        n.Conv2d(32, 64, 3, padding=1),
        n.ReLU(),
        n.MaxPool2d(2),
        n.Flatten(),
        n.Linear(64 * 14 * 14, 128),
        n.ReLU(),
        n.Linear(128, 10),
    )


@dataclass(frozen=True)
class Model:
    name: str
    what: str
    ours: Callable[[], nn.Module]
    batch: Callable[[np.random.Generator], tuple[Array, Array]]


def _classes(shape: tuple[int, ...], classes: int) -> Callable[[np.random.Generator], tuple[Array, Array]]:
    return lambda rng: (rng.standard_normal(shape).astype(np.float32), rng.integers(0, classes, shape[0]))


MODELS = [
    Model("mlp-small", "MLP 20-64-64-2, batch 32", lambda: sequential(nn, "mlp-small"), _classes((32, 20), 2)),
    Model("mlp", "MLP 784-256-128-10, batch 64", lambda: sequential(nn, "mlp"), _classes((64, 784), 10)),
    Model(
        "cnn",
        "CNN conv32-conv64-pool-fc128-fc10 on 28×28, batch 64",
        lambda: sequential(nn, "cnn"),
        _classes((64, 1, 28, 28), 10),
    ),
    Model("lstm", "LSTM 32→128, batch 32 × 50 steps", Sequence, _classes((32, 50, 32), 10)),
    Model(
        "gpt",
        "GPT 4 layers, 4 heads, width 128, 64 tokens, batch 12",
        GPT,
        lambda rng: (rng.integers(0, 65, (12, 64)), rng.integers(0, 65, (12, 64))),
    ),
    Model("resnet18", "ResNet-18 on 32×32, batch 32", lambda: resnet18(nn, Residual), _classes((32, 3, 32, 32), 10)),
]
