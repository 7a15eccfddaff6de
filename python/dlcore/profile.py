"""What a program's kernels take, as tables for reading."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Kernels by time, the slowest first: shape of the result, best time, share, rate, bytes read and written.

    The rate is GFLOP/s, by the operations of the definition, for products (so that a Winograd convolution can pass the
    processor's peak), and GB/s for all else.
    """
    whole = sum(r["ms"] for r in rows) or 1.0
    lines = [f"{'op':<24}{'layer':<24}{'shape':<22}{'kernel':<8}{'ms':>9}{'share':>8}{'rate':>16}{'bytes':>10}"]
    for r in sorted(rows, key=lambda r: -float(r["ms"])):
        lines.append(
            f"{r['op']:<24}{r['where']:<24}{r['shape']!s:<22}{r['backend']:<8}"
            f"{r['ms']:>9.4f}{r['ms'] / whole:>8.1%}{_rate(r):>16}{size(r['bytes']):>10}"
        )
    return "\n".join([*lines, f"{'all':<78}{whole:>9.4f}"])


def _rate(row: dict[str, Any]) -> str:
    seconds = row["ms"] * 1e-3
    if seconds <= 0:
        return "–"
    if row["operations"]:
        return f"{row['operations'] / seconds * 1e-9:.1f} GFLOP/s"
    return f"{row['bytes'] / seconds * 1e-9:.1f} GB/s"


def size(count: int) -> str:
    """Bytes in the unit that keeps them short."""
    if count < 1000:
        return f"{count} B"
    for unit in ("kB", "MB"):
        count_in = count / (1e3 if unit == "kB" else 1e6)
        if count_in < 1000:
            return f"{count_in:.1f} {unit}"
    return f"{count / 1e9:.1f} GB"
