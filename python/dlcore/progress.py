"""How far a run is: a rich bar on a terminal, one plain line an epoch elsewhere."""

from __future__ import annotations

import sys
import time
from typing import Any


def show(values: dict[str, float]) -> str:
    return "  ".join(f"{k} {v:.4f}" for k, v in values.items())


class Progress:
    """Of `epochs` epochs of `rows` rows. Used as a context; silent with `verbose=False`."""

    def __init__(self, epochs: int, rows: int, verbose: bool) -> None:
        self.epochs, self.rows, self.verbose = epochs, rows, verbose
        self.bar: Any = None
        self.task: Any = None
        self.begin = 0.0
        self._next = 0.0

    def __enter__(self) -> Progress:
        if self.verbose and sys.stdout.isatty():
            from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

            self.bar = Progress(
                TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:3.0f}%"),
                TextColumn("{task.fields[values]}"), TextColumn("{task.fields[speed]}"), TimeRemainingColumn(),
            )  # fmt: skip
            self.bar.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        if self.bar is not None:
            self.bar.__exit__(*error)

    def epoch(self, number: int, done: int = 0) -> None:
        """Epoch `number` (from 1) begins with `done` rows behind it."""
        self.begin = time.perf_counter()
        self._first = done
        if self.bar is not None:
            name = f"epoch {number}/{self.epochs}"
            self.task = self.bar.add_task(name, total=self.rows, completed=done, values="", speed="")

    def due(self) -> bool:
        """Whether a bar is shown and has not been redrawn for a while."""
        now = time.perf_counter()
        if self.bar is None or now < self._next:
            return False
        self._next = now + 0.1
        return True

    def step(self, done: int, values: dict[str, float]) -> None:
        self.bar.update(self.task, completed=done, values=show(values), speed=self._speed(done))

    def end(self, number: int, done: int, values: dict[str, float]) -> None:
        if self.bar is not None:
            self.bar.update(self.task, completed=done, values=show(values), speed=self._speed(done))
        elif self.verbose:
            took = time.perf_counter() - self.begin
            print(f"epoch {number}/{self.epochs}  {show(values)}  {self._speed(done)}  {took:.1f} s", flush=True)

    def _speed(self, done: int) -> str:
        return f"{(done - self._first) / max(1e-9, time.perf_counter() - self.begin):,.0f} samples/s"
