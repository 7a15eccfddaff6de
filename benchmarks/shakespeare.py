"""The same Transformer, data and batches in dlcore and in PyTorch for 2,000 steps: held-out losses beside each other.

python benchmarks/shakespeare.py [--steps 2000]
"""

from __future__ import annotations

import argparse
import lzma
from pathlib import Path
from typing import Any

import numpy as np
import torch

import dlcore as dl
from dlcore import data, nn, optim

WINDOW, WIDTH, BATCH = 64, 128, 12
OPTIONS = {"dropout": 0.0, "activation": "gelu", "batch_first": True, "norm_first": True}


class Ours(nn.Module):
    def __init__(self, vocabulary: int) -> None:
        self.token, self.position = nn.Embedding(vocabulary, WIDTH), nn.Embedding(WINDOW, WIDTH)
        layer = nn.TransformerEncoderLayer(WIDTH, 4, 4 * WIDTH, **OPTIONS)
        self.layers = nn.TransformerEncoder(layer, 4, nn.LayerNorm(WIDTH))
        self.head = nn.Linear(WIDTH, vocabulary)

    def forward(self, tokens: dl.Tensor) -> dl.Tensor:
        return self.head(self.layers(self.token(tokens) + self.position(dl.arange(WINDOW)), is_causal=True))


class Theirs(torch.nn.Module):
    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.token, self.position = torch.nn.Embedding(vocabulary, WIDTH), torch.nn.Embedding(WINDOW, WIDTH)
        layer = torch.nn.TransformerEncoderLayer(WIDTH, 4, 4 * WIDTH, **OPTIONS)
        norm = torch.nn.LayerNorm(WIDTH)
        self.layers = torch.nn.TransformerEncoder(layer, 4, norm, enable_nested_tensor=False)
        self.head = torch.nn.Linear(WIDTH, vocabulary)
        self.mask = torch.nn.Transformer.generate_square_subsequent_mask(WINDOW)

    def forward(self, tokens: Any) -> Any:
        x = self.token(tokens) + self.position(torch.arange(WINDOW))
        return self.head(self.layers(x, mask=self.mask, is_causal=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=2000)
    steps = parser.parse_args().steps
    path = Path(__file__).parents[1] / "examples/data/shakespeare.txt.xz"
    text = lzma.decompress(path.read_bytes()).decode()
    tokenizer = data.CharTokenizer(text)
    tokens, size = tokenizer.encode(text), len(tokenizer)
    train, held_out = np.split(tokens, [int(0.9 * len(tokens))])
    torch.manual_seed(0)
    theirs, ours = Theirs(size), Ours(size)
    ours.load_state_dict({k: v for k, v in theirs.state_dict().items() if k != "mask"})
    torch_optimizer = torch.optim.AdamW(theirs.parameters(), lr=1e-3)

    def score(x: dl.Tensor, y: dl.Tensor) -> dl.Tensor:
        return nn.functional.cross_entropy(ours(x).reshape(-1, size), y.reshape(-1))

    def torch_score(x: Any, y: Any) -> Any:
        return torch.nn.functional.cross_entropy(theirs(torch.tensor(x)).reshape(-1, size), torch.tensor(y).reshape(-1))

    def batch(source: Any, starts: Any) -> tuple[Any, Any]:
        windows = source[starts[:, None] + np.arange(WINDOW + 1)]
        return windows[:, :-1].copy(), windows[:, 1:].copy()

    step, evaluate = dl.train_step(ours, optim.AdamW(lr=1e-3))(score), dl.compile(score)
    spread = np.linspace(0, len(held_out) - WINDOW - 1, 100 * BATCH).astype(int).reshape(100, BATCH)
    rng = np.random.default_rng(0)
    print("| step | dlcore, held-out loss | PyTorch, held-out loss | difference |\n|---|---|---|---|")
    for n in range(1, steps + 1):
        x, y = batch(train, rng.integers(0, len(train) - WINDOW, BATCH))
        step(x, y)
        torch_optimizer.zero_grad()
        torch_score(x, y).backward()
        torch_optimizer.step()
        if n % 500 == 0 or n == steps:
            tests = [batch(held_out, s) for s in spread]
            mine = float(np.mean([evaluate(x, y).item() for x, y in tests]))
            theirs.eval()
            with torch.no_grad():
                other = float(np.mean([torch_score(x, y).item() for x, y in tests]))
            theirs.train()
            print(f"| {n} | {mine:.4f} | {other:.4f} | {mine - other:+.4f} |", flush=True)


if __name__ == "__main__":
    main()
