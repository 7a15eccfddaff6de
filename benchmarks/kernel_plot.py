"""A picture of the kernels' table: a roofline, and the ratios to the best peer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np


def draw(rows: list[dict[str, Any]], peak: float, bandwidth: float, path: Path) -> None:
    """rows of one thread count; peak in operations a second, bandwidth in bytes a second."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, max(5, 0.16 * len(rows))))
    roof, bars = figure.subplots(1, 2)
    families = sorted({r["family"] for r in rows})
    intensity = np.geomspace(0.05, 3000, 200)
    roof.loglog(intensity, np.minimum(peak, bandwidth * intensity) / 1e9, "k-", label="limit, measured")
    for family in families:
        own = [r for r in rows if r["family"] == family and r["operations"]]
        if own:
            roof.loglog([r["operations"] / r["bytes"] for r in own], [r["rate"] for r in own], "o", ms=4, label=family)
    roof.set_xlabel("operations a byte, arrays in and out once")
    roof.set_ylabel("GFLOP/s")
    roof.legend(frameon=False)
    shown = [r for r in rows if "ratio" in r]
    colours = {f: f"C{i}" for i, f in enumerate(families)}
    bars.barh(range(len(shown)), [r["ratio"] for r in shown], color=[colours[r["family"]] for r in shown])
    bars.set_yticks(range(len(shown)), [f"{r['family']} {r['case']}" for r in shown], fontsize=5)
    bars.set_xscale("log")
    bars.axvline(1, color="k", lw=0.8)
    bars.invert_yaxis()
    bars.set_xlabel("time of the best peer ÷ ours")
    figure.savefig(path, dpi=130, bbox_inches="tight")
