"""Pictures of training and predictions, by matplotlib (`pip install 'dlcore[plots]'`)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from dlcore.history import History

_RIGHT, _WRONG = "#2a7f3e", "#c0392b"


def _pyplot() -> Any:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError("pictures need matplotlib: pip install 'dlcore[plots]'") from None
    return Figure


def _finish(figure: Any, path: str | os.PathLike[str] | None) -> Any:
    if path is not None:
        os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
        figure.savefig(path, dpi=120, bbox_inches="tight")
    return figure


def _draw_curve(axes: Any, history: History, name: str) -> None:
    for key, style in ((name, "-"), (f"val_{name}", "--")):
        if key in history:
            values = history[key]
            axes.plot(range(1, len(values) + 1), values, style, marker="o", markersize=3, label=key.replace("_", " "))
    axes.set_xlabel("epoch")
    axes.set_ylabel(name)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)


def _curve_names(history: History) -> list[str]:
    return [n for n in history.names() if not n.startswith("val_")]


def curves(history: History, path: str | os.PathLike[str] | None = None) -> Any:
    """Loss and metrics over the epochs, training and validation; the figure, saved where `path` is given."""
    names = _curve_names(history)
    figure = _pyplot()(figsize=(4.5 * max(1, len(names)), 3.5))
    for axes, name in zip(np.atleast_1d(figure.subplots(1, max(1, len(names)))), names, strict=False):
        _draw_curve(axes, history, name)
    return _finish(figure, path)


def memory(rows: Sequence[tuple[str, str, int]], path: str | os.PathLike[str] | None = None) -> Any:
    """Bytes in use over a step or a prediction: what `TrainStep.memory` or `Program.memory` gives, node by node."""
    figure = _pyplot()(figsize=(9, 3.5))
    axes = figure.subplots()
    used = [b / 1e6 for _, _, b in rows]
    axes.fill_between(range(len(used)), used, step="mid", alpha=0.4)
    axes.set_xlabel("node, in the order of running")
    axes.set_ylabel("MB in use")
    axes.margins(x=0)
    if used:
        peak = int(np.argmax(used))
        op, where, _ = rows[peak]
        axes.annotate(
            f"{used[peak]:.3g} MB at {op} {where}".strip(), (peak, used[peak]), xytext=(0, 6),
            textcoords="offset points", ha="left" if peak < len(used) / 2 else "right", fontsize=8,
        )  # fmt: skip
        axes.set_ylim(0, used[peak] * 1.15 or 1)
    return _finish(figure, path)


def prediction_grid(
    images: Any,
    predicted: Sequence[Any],
    actual: Sequence[Any] | None = None,
    path: str | os.PathLike[str] | None = None,
    history: History | None = None,
    columns: int = 10,
) -> Any:
    """Images with their predictions, wrong ones in red with the true name; below, if given, the learning curves.

    images: (N, H, W), (N, 1, H, W) or (N, 3, H, W).
    """
    pictures = np.asarray(images)
    if pictures.ndim == 4:
        pictures = pictures[:, 0] if pictures.shape[1] == 1 else np.moveaxis(pictures, 1, -1)
    rows = -(-len(pictures) // columns)
    names = _curve_names(history) if history is not None else []
    figure = _pyplot()(figsize=(1.3 * columns, 1.55 * rows + (3.2 if names else 0)))
    parts = figure.subfigures(2, 1, height_ratios=[1.55 * rows, 3.2]) if names else [figure]
    for i, axes in enumerate(parts[0].subplots(rows, columns, squeeze=False).ravel()):
        axes.axis("off")
        if i >= len(pictures):
            continue
        axes.imshow(pictures[i], cmap="gray_r" if pictures[i].ndim == 2 else None, interpolation="nearest")
        right = actual is None or predicted[i] == actual[i]
        label = f"{predicted[i]}" if right or actual is None else f"{predicted[i]}\nis {actual[i]}"
        axes.set_title(label, fontsize=7, color="black" if actual is None else _RIGHT if right else _WRONG)
        if not right:
            axes.axis("on")
            axes.set_xticks([])
            axes.set_yticks([])
            for spine in axes.spines.values():
                spine.set_color(_WRONG)
                spine.set_linewidth(2)
    if names and history is not None:
        for axes, name in zip(np.atleast_1d(parts[1].subplots(1, len(names))), names, strict=True):
            _draw_curve(axes, history, name)
        parts[1].subplots_adjust(bottom=0.2, top=0.95)
    return _finish(figure, path)


def scatter(predicted: Any, actual: Any, path: str | os.PathLike[str] | None = None, unit: str = "") -> Any:
    """Predicted against actual values, on logarithmic axes where all are positive, with the line of equality."""
    p, y = np.asarray(predicted).ravel(), np.asarray(actual).ravel()
    figure = _pyplot()(figsize=(5, 5))
    axes = figure.subplots()
    axes.plot(y, p, ".", markersize=2, alpha=0.3)
    ends = [min(y.min(), p.min()), max(y.max(), p.max())]
    axes.plot(ends, ends, color=_WRONG, linewidth=1)
    if ends[0] > 0:
        axes.set_xscale("log")
        axes.set_yscale("log")
    axes.set_xlabel(f"actual {unit}".strip())
    axes.set_ylabel(f"predicted {unit}".strip())
    return _finish(figure, path)
