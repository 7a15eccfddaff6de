"""What the machine can do at most, measured: operations in registers and bytes through memory."""

from __future__ import annotations

import time

import numpy as np

from dlcore import _core

BYTES = 1 << 27  # of the array that is copied: larger than the last cache


def limits(threads: int) -> tuple[float, float]:
    """(operations a second, bytes a second) for so many threads: fused multiply-adds of one core times the threads,
    and a copy, counting what is read and what is written."""
    tensor = _core.Tensor.from_numpy(np.ones(BYTES // 4, np.float32))
    graph = _core.Graph()
    graph.output("y", graph.emit("copy", [graph.input("x", "f32", tensor.shape)], {})[0])
    program = _core.Program(graph, passes=[])
    best = float("inf")
    for _ in range(8):
        begin = time.perf_counter()
        program.run([tensor])
        best = min(best, time.perf_counter() - begin)
    return _core.fma_peak() * threads, 2 * BYTES / best
