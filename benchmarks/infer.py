"""Predictions of frozen models against ONNX Runtime and PyTorch (eager, TorchScript): python benchmarks/infer.py.

The same parameters everywhere; the outputs must agree before anything is timed. Arrays in, arrays out: what a caller of
`Program.run` waits for. Runs interleaved, the best of many, one thread and two.

    python benchmarks/infer.py                       all
    python benchmarks/infer.py cnn --seconds 10
    python benchmarks/infer.py --update README.md    writes the table between its marks
"""

from __future__ import annotations

import argparse
import importlib.util
import io
import json
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import dlcore as dl

sys.path.insert(0, str(Path(__file__).parent))
from models import MODELS
from report import Table
from timing import interleave, repeated, show

Array = np.ndarray[Any, Any]
# Model, rows, what the program was frozen for.
CASES = [
    ("mlp", 1, "latency"), ("mlp", 256, "throughput"), ("cnn", 1, "latency"), ("cnn", 64, "throughput"),
    ("resnet18", 1, "latency"), ("resnet18", 32, "throughput"),
]  # fmt: skip


def has(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


def candidates(name: str, rows: int, optimize: str, threads: int) -> dict[str, Callable[[], Array]]:
    """Each takes the same rows and gives the logits; they have been compared."""
    model = next(m for m in MODELS if m.name == name)
    x = model.batch(np.random.default_rng(0))[0]
    x = np.ascontiguousarray(np.resize(x, (rows, *x.shape[1:])))
    net = model.ours()
    if not has("torch"):
        program = dl.freeze(net, example=x, optimize=optimize)
        return {"dlcore": lambda: program.run(x)}
    import torch
    import torch_models

    torch.manual_seed(0)
    theirs = torch_models.build(name).eval()
    for module in theirs.modules():  # statistics as after training
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    net.load_state_dict(theirs.state_dict())
    program = dl.freeze(net, example=x, optimize=optimize)
    tensor = torch.from_numpy(x)

    def eager() -> Array:
        with torch.no_grad():
            return theirs(tensor).numpy()

    calls = {"dlcore": lambda: program.run(x), "PyTorch": eager}
    with warnings.catch_warnings():  # TorchScript still is what PyTorch offers without a compiler
        warnings.simplefilter("ignore")
        script = torch.jit.optimize_for_inference(torch.jit.freeze(torch.jit.trace(theirs, tensor)))

        def scripted() -> Array:
            with torch.no_grad():
                return script(tensor).numpy()

        calls["TorchScript"] = scripted
        if has("onnxruntime") and has("onnx"):
            calls["ONNX Runtime"] = onnx_runtime(theirs, tensor, x, threads)
    want = calls["dlcore"]()
    for other, call in calls.items():
        error = np.abs(call() - want).max() / np.abs(want).max()
        if not error < 1e-4:
            raise SystemExit(f"{name}: the outputs of dlcore and {other} differ by {error:.2g} of the largest")
    return calls


def onnx_runtime(model: Any, tensor: Any, x: Array, threads: int) -> Callable[[], Array]:
    import onnxruntime
    import torch

    file = io.BytesIO()
    torch.onnx.export(model, (tensor,), file, input_names=["x"], dynamo=False)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(file.getvalue(), options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"x": x})[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = sorted({name for name, _, _ in CASES})
    parser.add_argument("models", nargs="*", metavar="MODEL", help=f"of {', '.join(names)} (all)")
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--seconds", type=float, default=4.0, help="for each row")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--update", type=Path, help="write the table into this document, between its marks")
    args = parser.parse_args()
    if unknown := set(args.models) - set(names):
        parser.error(f"unknown models {sorted(unknown)}; known: {names}")

    rows = []
    table = Table("prediction", "threads", "dlcore", "best peer", "its time", "ratio of the best (of the medians)")
    what = {m.name: m.what.split(", batch")[0] for m in MODELS}
    for name, count, optimize in CASES:
        if args.models and name not in args.models:
            continue
        for threads in map(int, args.threads.split(",")):
            dl.set_num_threads(threads)
            if has("torch"):
                import torch

                torch.set_num_threads(threads)
            calls = candidates(name, count, optimize, threads)
            times = interleave({n: repeated(c) for n, c in calls.items()}, args.seconds, 0.02, threads)
            ours = times.pop("dlcore")
            rows.append({"model": name, "rows": count, "threads": threads, "dlcore": vars(ours),
                         **{n: vars(t) for n, t in times.items()}})  # fmt: skip
            peer = min(times, key=lambda n: times[n].best, default=None)
            cells: list[str] = ["–", "–", "–"]
            if peer:
                t = times[peer]
                cells = [peer, show(t.best), f"{t.best / ours.best:.2f} ({t.median / ours.median:.2f})"]
            table.row(f"{what[name]}, batch {count}", threads, show(ours.best), *cells)
    if args.update:
        table.write(args.update, "predictions")
    if args.json:
        args.json.write_text(json.dumps({"machine": dl.info(), "rows": rows}, indent=1, default=str))


if __name__ == "__main__":
    main()
