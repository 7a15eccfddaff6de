"""The kernels against PyTorch (MKL, oneDNN), NumPy (OpenBLAS) and ONNX Runtime, interleaved in one process.

    python benchmarks/kernels.py [FAMILY …] [--threads 1,2] [--seconds 1] [--json F] [--plot F] [--update DOCUMENT]

For each case: GFLOP/s or GB/s of the best run and its share of the limit measured in the same run (operations in
registers, a copy through memory), the ratio to the best peer (of the best and of the median runs), how much faster than
with one thread, and the largest difference from float64 relative to the largest element, ours and the peer's; see
docs/performance.md. --busy: while another process computes on one of the cores.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import os
import sys
from pathlib import Path
from typing import Any

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # taken when NumPy is loaded: it is a peer for one thread

import numpy as np

import dlcore as dl

sys.path.insert(0, str(Path(__file__).parent))
from kernel_cases import FAMILIES as PRODUCTS
from kernel_cases import Case
from limits import limits
from report import Table
from row_cases import FAMILIES as ROWS
from timing import burning, interleave, repeated, show

FAMILIES = PRODUCTS | ROWS


def exact(case: Case) -> Any:
    """The first output by the naive kernels in float64; nothing where that would take long."""
    if case.flops > 2e8 or case.bytes > 5e7:
        return None
    return case.exact()


def error(found: Any, want: Any) -> str:
    if want is None:
        return "–"
    if hasattr(found, "data_type"):  # ONNX Runtime's
        found = found.numpy()
    if hasattr(found, "bfloat16"):  # PyTorch's: NumPy has no such type
        found = found.float()
    elif found.dtype == np.uint16:  # ours: the upper halves of float32
        found = (found.astype(np.uint32) << 16).view(np.float32)
    values = np.asarray(found, np.float64)
    if values.shape != want.shape:
        return "–"
    return f"{np.abs(values - want).max() / max(1e-30, np.abs(want).max()):.1e}"


def measure(case: Case, peers: set[str], seconds: float, threads: int) -> dict[str, Any]:
    calls: dict[str, Any] = {"dlcore": case.ours()}
    calls |= {name: build() for name, build in case.peers.items() if name.split()[0] in peers}
    times = interleave({n: repeated(c) for n, c in calls.items()}, seconds, 0.02, threads)
    ours = times.pop("dlcore")
    best = min(times, key=lambda n: times[n].best) if times else None
    want = exact(case)
    rate = (case.flops or case.bytes) / ours.best / 1e9
    outputs = calls["dlcore"]()
    row = {
        "family": case.family, "case": case.name, "best": ours.best, "rate": rate,
        "unit": "GFLOP/s" if case.flops else "GB/s", "error": error(outputs[0].numpy(), want), "operations": case.flops,
        "bytes": case.bytes or sum(a.nbytes for a in case.arrays) + sum(t.nbytes for t in outputs),
    }  # fmt: skip
    if best is not None:
        row |= {
            "peer": best, "ratio": times[best].best / ours.best, "median": times[best].median / ours.median,
            "peer_error": error(calls[best](), want),
        }  # fmt: skip
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("families", nargs="*", metavar="FAMILY", help=f"of {', '.join(FAMILIES)} (all)")
    parser.add_argument("--threads", default="1")
    parser.add_argument("--peers", default="torch,numpy,onnxruntime")
    parser.add_argument("--seconds", type=float, default=1.0, help="for each case")
    parser.add_argument("--match", default="", help="only cases whose name holds this")
    parser.add_argument("--busy", action="store_true", help="while another process computes on one of the cores")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path, help="a picture: roofline and ratios (matplotlib)")
    parser.add_argument("--update", type=Path, help="write the table into this document, between its marks")
    args = parser.parse_args()
    if unknown := set(args.families) - set(FAMILIES):
        parser.error(f"unknown families {sorted(unknown)}; known: {', '.join(FAMILIES)}")
    peers = {p for p in args.peers.split(",") if p and importlib.util.find_spec(p) is not None}
    if importlib.util.find_spec("onnx") is None:  # makes the models
        peers.discard("onnxruntime")

    rows: list[dict[str, Any]] = []
    table = Table(
        "kernel", "threads", "time", "rate", "of the limit", "peer", "ratio of the best (of the medians)",
        "over one thread", "error", "peer's",
    )  # fmt: skip
    bounds = {}
    alone: dict[str, float] = {}  # times with one thread
    with burning(args.busy):
        for threads in map(int, args.threads.split(",")):
            dl.set_num_threads(threads)
            if "torch" in peers:
                import torch

                torch.set_num_threads(threads)
            own_peers = peers - ({"numpy"} if threads > 1 else set())
            bounds[threads] = peak, bandwidth = limits(threads)
            table.row("limits", threads, "", f"{peak / 1e9:.0f} GFLOP/s, {bandwidth / 1e9:.1f} GB/s", *[""] * 6)
            for family in args.families or FAMILIES:
                ratios = []
                for case in FAMILIES[family]():
                    if args.match not in case.name:
                        continue
                    row = measure(case, own_peers, args.seconds, threads) | {"threads": threads}
                    rows.append(row)
                    name = f"{family} {case.name}"
                    limit = (peak if case.flops else bandwidth) / 1e9
                    if threads == 1:
                        alone[name] = row["best"]
                    row["scaling"] = alone[name] / row["best"] if threads > 1 and name in alone else None
                    ratio = f"{row['ratio']:.2f} ({row['median']:.2f})" if "ratio" in row else "–"
                    ratios += [row["ratio"]] if "ratio" in row else []
                    table.row(
                        name, threads, show(row["best"]), f"{row['rate']:.1f} {row['unit']}",
                        f"{row['rate'] / limit:.0%}" if limit else "–", row.get("peer", "–"), ratio,
                        f"{row['scaling']:.2f}" if row["scaling"] else "–", row["error"], row.get("peer_error", "–"),
                    )  # fmt: skip
                if ratios:
                    mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
                    table.row(f"{family}, geometric mean", threads, *[""] * 4, f"{mean:.2f}", *[""] * 3)
    if args.update:
        table.write(args.update, "kernels")
    if args.json:
        args.json.write_text(json.dumps({"machine": dl.info(), "limits": bounds, "rows": rows}, indent=1, default=str))
    if args.plot:
        from kernel_plot import draw

        first = next(iter(bounds))
        draw([r for r in rows if r["threads"] == first], *bounds[first], args.plot)


if __name__ == "__main__":
    main()
