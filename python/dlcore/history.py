"""What a training run measured, epoch by epoch."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any


class History:
    """Values by name, one an epoch: "loss", metrics, and with validation "val_loss" and so on."""

    def __init__(self) -> None:
        self.epochs: list[dict[str, float]] = []

    def add(self, values: dict[str, float]) -> None:
        self.epochs.append(values)

    def __getitem__(self, name: str) -> list[float]:
        found = [e[name] for e in self.epochs if name in e]
        if not found:
            raise KeyError(f"the history has no '{name}'; it has {', '.join(self.names())}")
        return found

    def __contains__(self, name: str) -> bool:
        return name in self.names()

    def __len__(self) -> int:
        return len(self.epochs)

    def __iter__(self) -> Iterator[dict[str, float]]:
        return iter(self.epochs)

    def names(self) -> list[str]:
        return list(dict.fromkeys(n for e in self.epochs for n in e))

    def __repr__(self) -> str:
        last = ", ".join(f"{k}: {v:.4g}" for k, v in self.epochs[-1].items()) if self.epochs else "empty"
        return f"History({len(self)} epochs; {last})"

    def plot(self, path: str | os.PathLike[str] | None = None) -> Any:
        """The learning curves as a matplotlib figure, saved where `path` is given."""
        from dlcore import plots

        return plots.curves(self, path)
