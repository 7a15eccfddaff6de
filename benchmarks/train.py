"""Whole training steps (forward, loss, backward, AdamW) against PyTorch and JAX: python benchmarks/train.py.

Same parameters, same batch; the losses must agree before anything is timed. dlcore runs the loop that `fit` runs over
data in memory; PyTorch is eager with its fused AdamW, channels-last where that is better. Runs interleaved, the best of
many, one thread and two.

    python benchmarks/train.py                          all models
    python benchmarks/train.py cnn --seconds 20 --threads 1
    python benchmarks/train.py --peers torch,compile,jax    also torch.compile, which takes its time to warm up
    python benchmarks/train.py --costs                  time to the first step and peak memory, in own processes
    python benchmarks/train.py --busy                   two threads while another process takes one of the cores
    python benchmarks/train.py --update README.md       writes the table between its marks
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import dlcore as dl
from dlcore import _core, nn, optim

sys.path.insert(0, str(Path(__file__).parent))
from costs import costs
from models import MODELS, Model
from report import Table
from timing import burning, interleave, repeated, show

SLICE = 0.02  # seconds of steps that run together, as fit does


def flat_cross_entropy(logits: dl.Tensor, y: dl.Tensor) -> dl.Tensor:
    return nn.functional.cross_entropy(logits.reshape(-1, logits.shape[-1]), y.reshape(-1))


class Ours:
    """fit's own loop: steps over one batch in memory, without Python between them. A call gives (steps, last loss)."""

    def __init__(self, model: Model, state: dict[str, Any] | None, x: Any, y: Any) -> None:
        net = model.ours()
        if state is not None:
            net.load_state_dict(state)
        self.step = dl.train_step(net, optim.AdamW(lr=1e-3))(lambda x, y: flat_cross_entropy(net(x), y))
        self.columns = [_core.Tensor.from_numpy(np.ascontiguousarray(a)) for a in (x, y)]
        self.batch, self.count = len(x), 1

    def __call__(self, steps: int) -> float:
        order = _core.Tensor.from_numpy(np.tile(np.arange(self.batch), steps))
        return float(self.step.run_batches(self.columns, order, self.batch, 0, steps, 1e9)[1].numpy()[-1])


def has(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


def candidates(model: Model, peers: set[str]) -> dict[str, Callable[[int], object]]:
    """Each runs so many steps. Their first three losses have been compared."""
    x, y = model.batch(np.random.default_rng(0))
    if not has("torch"):
        return {"dlcore": Ours(model, None, x, y)}
    import torch
    import torch_models

    torch.manual_seed(0)
    state = {k: v.clone() for k, v in torch_models.build(model.name).state_dict().items()}
    calls: dict[str, Callable[[int], object]] = {"dlcore": Ours(model, state, x, y)}

    def theirs(**options: bool) -> Callable[[int], object]:
        net = torch_models.build(model.name)
        net.load_state_dict(state)
        return repeated(torch_models.training_step(net, x, y, **options))

    if "torch" in peers:
        calls["PyTorch"] = theirs()
        if x.ndim == 4:
            calls["PyTorch channels-last"] = theirs(channels_last=True)
    if "compile" in peers:
        calls["torch.compile"] = theirs(compiled=True)
    if "jax" in peers and has("jax") and model.name.startswith("mlp"):
        import jax_models

        calls["JAX"] = repeated(jax_models.training_step({k: v.numpy() for k, v in state.items()}, x, y))
    for i in range(3):
        losses = {name: call(1) for name, call in calls.items()}
        ours = losses["dlcore"]
        wrong = {n: v for n, v in losses.items() if abs(v - ours) > 2e-3 * max(1, abs(ours))}  # type: ignore[operator,arg-type]
        if wrong:
            raise SystemExit(f"{model.name}: the losses differ at step {i}: dlcore {ours}, {wrong}")
    return calls


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [m.name for m in MODELS]
    parser.add_argument("models", nargs="*", metavar="MODEL", help=f"of {', '.join(names)} (all)")
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--peers", default="torch,jax", help="of torch, compile, jax; those installed are used")
    parser.add_argument("--seconds", type=float, default=4.0, help="for each row")
    parser.add_argument("--busy", action="store_true", help="while another process computes on one of the cores")
    parser.add_argument("--costs", action="store_true", help="time to the first step and peak memory instead")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--update", type=Path, help="write the table into this document, between its marks")
    args = parser.parse_args()
    unknown = set(args.models) - set(names)
    if unknown:
        parser.error(f"unknown models {sorted(unknown)}; known: {names}")
    chosen = [m for m in MODELS if not args.models or m.name in args.models]
    if args.costs:
        table, rows = costs([m.name for m in chosen], [p for p in ("dlcore", "torch") if p == "dlcore" or has(p)])
        mark = "costs"
    else:
        table, rows = steps(chosen, args)
        mark = "busy" if args.busy else "measured"
    if args.update:
        table.write(args.update, mark)
    if args.json:
        args.json.write_text(json.dumps({"machine": dl.info(), "rows": rows}, indent=1, default=str))


def steps(models: list[Model], args: argparse.Namespace) -> tuple[Table, list[dict[str, Any]]]:
    rows = []
    table = Table("training step", "threads", "dlcore", "best peer", "its time", "ratio of the best (of the medians)")
    for model in models:
        for threads in map(int, args.threads.split(",")):
            dl.set_num_threads(threads)
            if has("torch"):
                import torch

                torch.set_num_threads(threads)
            # JAX takes all cores it may: for one thread, run this on one core (`taskset -c 0`).
            peers = set(args.peers.split(",")) - ({"jax"} if threads == 1 and _cores() > 1 else set())
            calls = candidates(model, peers)
            with burning(args.busy):
                times = interleave(calls, args.seconds, SLICE, threads)
            ours = times.pop("dlcore")
            rows.append({"model": model.name, "threads": threads, "busy": args.busy, "dlcore": vars(ours),
                         **{k: vars(t) for k, t in times.items()}})  # fmt: skip
            if not times:
                table.row(model.what, threads, show(ours.best), "–", "–", "–")
            for name, theirs in _shown(times).items():
                ratio = f"{theirs.best / ours.best:.2f} ({theirs.median / ours.median:.2f})"
                table.row(model.what, threads, show(ours.best), name, show(theirs.best), ratio)
    return table, rows


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _shown(times: dict[str, Any]) -> dict[str, Any]:
    """Of each framework the better of its ways."""
    found: dict[str, Any] = {}
    for family in ("PyTorch", "torch.compile", "JAX"):
        ways = {n: t for n, t in times.items() if n.startswith(family)}
        if ways:
            best = min(ways, key=lambda n: ways[n].best)
            found[best] = ways[best]
    return found


if __name__ == "__main__":
    main()
