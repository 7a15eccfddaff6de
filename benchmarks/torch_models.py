"""The models of the benchmarks in PyTorch, with the state-dict keys of those in dlcore."""

from __future__ import annotations

from typing import Any

import torch
from models import resnet18, sequential
from torch import nn as tnn


class Block(tnn.Module):  # type: ignore[misc]
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


class GPT(tnn.Module):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.token, self.position = tnn.Embedding(65, 128), tnn.Embedding(64, 128)
        self.blocks = tnn.Sequential(*[Block(128, 4) for _ in range(4)])
        self.ln, self.head = tnn.LayerNorm(128), tnn.Linear(128, 65, bias=False)

    def forward(self, ids: Any) -> Any:
        return self.head(self.ln(self.blocks(self.token(ids) + self.position(torch.arange(ids.shape[1])))))


class Residual(tnn.Module):  # type: ignore[misc]
    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = tnn.Conv2d(channels, out, 3, stride=stride, padding=1, bias=False)
        self.bn1, self.bn2 = tnn.BatchNorm2d(out), tnn.BatchNorm2d(out)
        self.conv2 = tnn.Conv2d(out, out, 3, padding=1, bias=False)
        self.shortcut: tnn.Module = tnn.Identity()
        if stride != 1 or channels != out:
            self.shortcut = tnn.Sequential(
                tnn.Conv2d(channels, out, 1, stride=stride, bias=False), tnn.BatchNorm2d(out)
            )

    def forward(self, x: Any) -> Any:
        y = self.bn2(self.conv2(tnn.functional.relu(self.bn1(self.conv1(x)))))
        return tnn.functional.relu(y + self.shortcut(x))


class Sequence(tnn.Module):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.head = tnn.LSTM(32, 128, batch_first=True), tnn.Linear(128, 10)

    def forward(self, x: Any) -> Any:
        return self.head(self.lstm(x)[0][:, -1])


def build(name: str) -> Any:
    if name == "gpt":
        return GPT()
    if name == "lstm":
        return Sequence()
    return resnet18(tnn, Residual) if name == "resnet18" else sequential(tnn, name)


def training_step(net: Any, x: Any, y: Any, channels_last: bool = False, compiled: bool = False) -> Any:
    """A call that trains on the batch once, with the fused AdamW, and gives the loss."""
    xs, ys = torch.tensor(x), torch.tensor(y)
    if channels_last:
        net, xs = net.to(memory_format=torch.channels_last), xs.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3, fused=True)
    forward = torch.compile(net) if compiled else net

    def step() -> float:
        optimizer.zero_grad()
        logits = forward(xs)
        loss = torch.nn.functional.cross_entropy(logits.reshape(-1, logits.shape[-1]), ys.reshape(-1))
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    return step
