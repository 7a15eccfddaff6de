"""The model zoo of the tests: small models of each kind, each with a batch of data, made the same way every time."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import dlcore as dl
from dlcore import nn

Array = np.ndarray[Any, Any]


class Block(nn.Module):
    """One pre-norm Transformer block with causal attention."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.ln1, self.ln2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.drop = nn.Dropout(dropout)

    def forward(self, x: dl.Tensor) -> dl.Tensor:
        b, t, c = x.shape
        h = self.qkv(self.ln1(x)).reshape(b, t, 3, self.heads, c // self.heads).transpose(2, 0, 3, 1, 4)
        h = nn.functional.scaled_dot_product_attention(h[0], h[1], h[2], is_causal=True)
        x = x + self.drop(self.proj(h.transpose(0, 2, 1, 3).reshape(b, t, c)))
        return x + self.drop(self.fc2(nn.functional.gelu(self.fc1(self.ln2(x)))))


class GPT(nn.Module):
    def __init__(
        self,
        vocabulary: int = 65,
        tokens: int = 16,
        width: int = 32,
        heads: int = 4,
        layers: int = 2,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.token, self.position = nn.Embedding(vocabulary, width), nn.Embedding(tokens, width)
        self.blocks = nn.Sequential(*[Block(width, heads, dropout) for _ in range(layers)])
        self.ln, self.head = nn.LayerNorm(width), nn.Linear(width, vocabulary, bias=False)

    def forward(self, ids: dl.Tensor) -> dl.Tensor:
        x = self.token(ids) + self.position(dl.arange(ids.shape[1]))
        return self.head(self.ln(self.blocks(x)))


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 64), nn.Tanh(), nn.Dropout(0.2), nn.Linear(64, 5))


def cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, stride=2, padding=1),
        nn.BatchNorm2d(16),
        nn.GELU(),
        nn.Dropout(0.3),
        nn.Conv2d(16, 16, 3, padding=1, groups=16),
        nn.SiLU(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(16 * 3 * 3, 10),
    )


class Recurrent(nn.Module):
    """Two layers of LSTM, both ways, read at the last step."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Embedding(65, 12)
        self.lstm = nn.LSTM(12, 20, num_layers=2, dropout=0.1, bidirectional=True, batch_first=True)
        self.head = nn.Linear(40, 10)

    def forward(self, ids: dl.Tensor) -> dl.Tensor:
        return self.head(self.lstm(self.token(ids))[0][:, -1])


def gpt() -> nn.Module:
    return GPT(dropout=0.1)


def token_loss(logits: dl.Tensor, labels: dl.Tensor) -> dl.Tensor:
    return nn.functional.cross_entropy(
        logits.reshape(math.prod(logits.shape[:-1]), logits.shape[-1]), labels.reshape(-1)
    )


@dataclass(frozen=True)
class Entry:
    name: str
    build: Callable[[], nn.Module]
    batch: Callable[[int, np.random.Generator], tuple[Array, Array]]
    loss: Callable[[dl.Tensor, dl.Tensor], dl.Tensor]


def _features(n: int, rng: np.random.Generator) -> tuple[Array, Array]:
    return rng.standard_normal((n, 20)).astype(np.float32), rng.integers(0, 5, n)


def _images(n: int, rng: np.random.Generator) -> tuple[Array, Array]:
    return rng.standard_normal((n, 1, 24, 24)).astype(np.float32), rng.integers(0, 10, n)


def _tokens(n: int, rng: np.random.Generator) -> tuple[Array, Array]:
    return rng.integers(0, 65, (n, 16)), rng.integers(0, 65, (n, 16))


def _sequences(n: int, rng: np.random.Generator) -> tuple[Array, Array]:
    return rng.integers(0, 65, (n, 9)), rng.integers(0, 10, n)


ZOO = [
    Entry("mlp", mlp, _features, nn.functional.cross_entropy),
    Entry("cnn", cnn, _images, nn.functional.cross_entropy),
    Entry("lstm", Recurrent, _sequences, nn.functional.cross_entropy),
    Entry("gpt", gpt, _tokens, token_loss),
]
