"""A training step (forward, loss, backward, AdamW) in dlcore and in PyTorch: same parameters, same batch; first they
must agree in value, then they are timed, interleaved.

    python benchmarks/train.py [mlp-small mlp cnn gpt] [--threads 1,2] [--seconds 4] [--json F] [--update README.md]

PyTorch (pip install torch==2.13.0) is optional: without it only dlcore's times are printed.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import dlcore as dl
from dlcore import nn, optim

sys.path.insert(0, str(Path(__file__).parent))
from models import MODELS, Model
from report import Table
from timing import interleave, show


def flat_cross_entropy(logits: dl.Tensor, y: dl.Tensor) -> dl.Tensor:
    return nn.functional.cross_entropy(logits.reshape(-1, logits.shape[-1]), y.reshape(-1))


def dlcore_step(model: Model, state: dict[str, Any] | None, x: Any, y: Any) -> Callable[[], float]:
    net = model.ours()
    if state is not None:
        net.load_state_dict(state)
    xs, ys = dl.tensor(x), dl.tensor(y)

    @dl.train_step(net, optim.AdamW(lr=1e-3))
    def step(x: dl.Tensor, y: dl.Tensor) -> dl.Tensor:
        return flat_cross_entropy(net(x), y)

    return lambda: step(xs, ys).item()


def torch_step(net: Any, x: Any, y: Any) -> Callable[[], float]:
    import torch

    xs, ys = torch.tensor(x), torch.tensor(y)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3, fused=True)

    def step() -> float:
        optimizer.zero_grad()
        logits = net(xs)
        loss = torch.nn.functional.cross_entropy(logits.reshape(-1, logits.shape[-1]), ys.reshape(-1))
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    return step


def candidates(model: Model) -> dict[str, Callable[[], float]]:
    x, y = model.batch(np.random.default_rng(0))
    if importlib.util.find_spec("torch") is None:
        return {"dlcore": dlcore_step(model, None, x, y)}
    import torch

    torch.manual_seed(0)
    net = model.theirs()
    found = {"dlcore": dlcore_step(model, net.state_dict(), x, y), "PyTorch": torch_step(net, x, y)}
    for i in range(3):
        a, b = (call() for call in found.values())
        if abs(a - b) > 1e-3 * abs(b):
            raise SystemExit(f"{model.name}: the losses differ at step {i}: dlcore {a}, PyTorch {b}")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [m.name for m in MODELS]
    parser.add_argument("models", nargs="*", metavar="MODEL", help=f"of {', '.join(names)} (all)")
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--seconds", type=float, default=4.0, help="for each row")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--update", type=Path, help="write the table into this document, between its marks")
    args = parser.parse_args()
    unknown = set(args.models) - set(names)
    if unknown:
        parser.error(f"unknown models {sorted(unknown)}; known: {names}")

    rows = []
    table = Table("training step", "threads", "dlcore", "PyTorch", "ratio of the best (of the medians)")
    for model in MODELS:
        if args.models and model.name not in args.models:
            continue
        for threads in map(int, args.threads.split(",")):
            dl.set_num_threads(threads)
            if importlib.util.find_spec("torch") is not None:
                import torch

                torch.set_num_threads(threads)
            times = interleave(candidates(model), args.seconds)
            ours, theirs = times["dlcore"], times.get("PyTorch")
            ratio = f"{theirs.best / ours.best:.2f} ({theirs.median / ours.median:.2f})" if theirs else "–"
            table.row(model.what, threads, show(ours.best), show(theirs.best) if theirs else "–", ratio)
            rows.append({"model": model.name, "threads": threads, **{k: vars(t) for k, t in times.items()}})
    if args.update:
        table.write(args.update, "measured")
    if args.json:
        args.json.write_text(json.dumps({"machine": dl.info(), "rows": rows}, indent=1, default=str))


if __name__ == "__main__":
    main()
