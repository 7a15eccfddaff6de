"""The models of the benchmarks, each in dlcore and in PyTorch with the same state-dict keys, and a batch of data."""

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


def torch_gpt() -> Any:
    import torch
    from torch import nn as tnn

    class TorchBlock(tnn.Module):  # type: ignore[misc]
        def __init__(self, width: int, heads: int) -> None:
            super().__init__()
            self.heads = heads
            self.ln1, self.ln2 = tnn.LayerNorm(width), tnn.LayerNorm(width)
            self.qkv, self.proj = tnn.Linear(width, 3 * width), tnn.Linear(width, width)
            self.fc1, self.fc2 = tnn.Linear(width, 4 * width), tnn.Linear(4 * width, width)

        def forward(self, x: Any) -> Any:
            b, t, c = x.shape
            q, k, v = self.qkv(self.ln1(x)).reshape(b, t, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
            h = tnn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + self.proj(h.permute(0, 2, 1, 3).reshape(b, t, c))
            return x + self.fc2(tnn.functional.gelu(self.fc1(self.ln2(x))))

    class TorchGPT(tnn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.token, self.position = tnn.Embedding(65, 128), tnn.Embedding(64, 128)
            self.blocks = tnn.Sequential(*[TorchBlock(128, 4) for _ in range(4)])
            self.ln, self.head = tnn.LayerNorm(128), tnn.Linear(128, 65, bias=False)

        def forward(self, ids: Any) -> Any:
            return self.head(self.ln(self.blocks(self.token(ids) + self.position(torch.arange(ids.shape[1])))))

    return TorchGPT()


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
    theirs: Callable[[], Any]
    batch: Callable[[np.random.Generator], tuple[Array, Array]]


def _classes(shape: tuple[int, ...], classes: int) -> Callable[[np.random.Generator], tuple[Array, Array]]:
    return lambda rng: (rng.standard_normal(shape).astype(np.float32), rng.integers(0, classes, shape[0]))


def _torch_sequential(name: str) -> Callable[[], Any]:
    def build() -> Any:
        import torch

        return sequential(torch.nn, name)

    return build


MODELS = [
    Model(
        "mlp-small",
        "MLP 20-64-64-2, batch 32",
        lambda: sequential(nn, "mlp-small"),
        _torch_sequential("mlp-small"),
        _classes((32, 20), 2),
    ),
    Model(
        "mlp",
        "MLP 784-256-128-10, batch 64",
        lambda: sequential(nn, "mlp"),
        _torch_sequential("mlp"),
        _classes((64, 784), 10),
    ),
    Model(
        "cnn",
        "CNN conv32-conv64-pool-fc128-fc10 on 28×28, batch 64",
        lambda: sequential(nn, "cnn"),
        _torch_sequential("cnn"),
        _classes((64, 1, 28, 28), 10),
    ),
    Model(
        "gpt",
        "GPT 4 layers, 4 heads, width 128, 64 tokens, batch 12",
        GPT,
        torch_gpt,
        lambda rng: (rng.integers(0, 65, (12, 64)), rng.integers(0, 65, (12, 64))),
    ),
]
