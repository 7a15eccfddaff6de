"""Interleaved timing: each candidate runs a little in turn, many times over, so that all see the same weather of a
shared machine. The best is what the code can do, the median what it does here."""

from __future__ import annotations

import contextlib
import multiprocessing
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

_PAUSE = 0.3  # seconds


@dataclass(frozen=True)
class Timing:
    best: float  # seconds a call
    median: float


def interleave(
    candidates: dict[str, Callable[[int], object]], seconds: float = 4.0, slice_seconds: float = 0.03, threads: int = 1
) -> dict[str, Timing]:
    """Times all candidates in turn for about `seconds` in all. Each takes how often it should run: short ones run many
    times to fill `slice_seconds`; one that takes longer than `seconds` for a single call is not called again. With
    several threads each begins after a pause and a call that does not count: the threads of the one before it go on
    spinning for a while, on the cores that it needs."""
    repeats: dict[str, int] = {}
    samples: dict[str, list[float]] = {name: [] for name in candidates}
    for name, call in candidates.items():
        call(1)
        begin = time.perf_counter()
        call(1)
        once = time.perf_counter() - begin
        if once > seconds:
            samples[name].append(once)
            continue
        repeats[name] = max(1, int(slice_seconds / max(1e-7, once)))
        call(repeats[name])
    end = time.perf_counter() + seconds
    while repeats and (time.perf_counter() < end or min(len(samples[name]) for name in repeats) < 5):
        for name in repeats:
            call = candidates[name]
            if threads > 1:
                time.sleep(_PAUSE)
                call(1)
            begin = time.perf_counter()
            call(repeats[name])
            samples[name].append((time.perf_counter() - begin) / repeats[name])
    return {name: Timing(min(s), statistics.median(s)) for name, s in samples.items()}


def repeated(call: Callable[[], object]) -> Callable[[int], object]:
    """A call as interleave wants it."""

    def run(times: int) -> object:
        result = None
        for _ in range(times):
            result = None  # its memory may serve the next call, as in a loop that uses up what it makes
            result = call()
        return result

    return run


def _burn() -> None:
    while True:
        pass


@contextlib.contextmanager
def burning(on: bool) -> Iterator[None]:
    """Another process computes meanwhile."""
    if not on:
        yield
        return
    other = multiprocessing.get_context("spawn").Process(target=_burn, daemon=True)
    other.start()
    try:
        yield
    finally:
        other.kill()
        other.join()


def show(seconds: float) -> str:
    """Three significant digits with a unit."""
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= scale:
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"
