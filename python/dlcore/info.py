"""What this installation runs on."""

from __future__ import annotations

import platform
from typing import Any

from dlcore import _core


def info() -> dict[str, Any]:
    """Version, instruction set in use and the best one found, threads, and whether CUDA is there and why not."""
    return {
        "version": _core.__version__,
        "python": platform.python_version(),
        "isa": _core.isa(),
        "detected_isa": _core.detected_isa(),
        "threads": _core.num_threads(),
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
