"""What this installation runs on."""

from __future__ import annotations

import platform
from typing import Any

from dlcore import _core
from dlcore.variable import structure


def info() -> dict[str, Any]:
    """Version, instruction set in use and the best one found, threads, and whether CUDA is there and why not."""
    return {
        "version": _core.__version__,
        "python": platform.python_version(),
        "isa": _core.isa(),
        "detected_isa": _core.detected_isa(),
        "threads": _core.num_threads(),
        "precision": precision(),
        "cuda": False,
        "cuda_why_not": "this version computes on the CPU alone",
    }


def set_num_threads(n: int) -> None:
    """The number of threads used from here on, at least 1. Results do not depend on it."""
    if n < 1:
        raise ValueError(f"the number of threads must be at least 1, got {n}")
    _core.set_num_threads(n)


def num_threads() -> int:
    return _core.num_threads()


def set_precision(name: str) -> None:
    """How convolutions in float32 round, in what is traced or frozen from here on.

    "fast" (the default): Winograd's F(4×4, 3×3) where it pays, two to three times as fast, with an error near 3e-6 of
    the largest output, and its forms for 5×5 kernels, for 3×3 and 4×4 with stride 2, for signals and, slice by slice,
    for 3-d kernels. "precise": F(2×2, 3×3), near 5e-7 as direct sums are, at two thirds of the speed, and direct sums
    for other kernels. A program file keeps what it was frozen with.
    """
    if name not in ("fast", "precise"):
        raise ValueError(f"precision should be 'fast' or 'precise', got {name!r}")
    if (name == "precise") != _core.precise():
        _core.set_precise(name == "precise")
        structure.version += 1  # what has been compiled was compiled for the other one


def precision() -> str:
    return "precise" if _core.precise() else "fast"
