"""`Trainer.report`: how good a model is on a data set, as one HTML file that needs nothing else."""

from __future__ import annotations

import base64
import html
import io
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dlcore.data.dataset import Array, ArrayDataset
from dlcore.data.loader import DataLoader
from dlcore.history import History

if TYPE_CHECKING:
    from dlcore.trainer import Trainer

_SERIES = ("#2463a8", "#c0562b")  # training, validation
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 64em; margin: 2em auto; padding: 0 1em; }
table { border-collapse: collapse; margin: 1em 0; } th, td { padding: .25em .8em; text-align: right; }
th { font-weight: 600; border-bottom: 1px solid #999; } td.text, th.text { text-align: left; }
tr.wrong td { background: #fbecea; } .curves svg { margin-right: 1.5em; } img { image-rendering: pixelated; }
small { color: #666; }
"""


def write(trainer: Trainer, dataset: ArrayDataset, path: str | os.PathLike[str], worst: int = 20) -> dict[str, float]:
    """Measures, writes the file, and returns the measured values.

    worst: so many rows with the largest loss (or, for numbers, the largest deviation) are listed.
    """
    if worst < 0:
        raise ValueError(f"worst should not be negative, got {worst}")
    values = trainer.evaluate(dataset)
    outputs = _outputs(trainer, dataset)
    title = f"{type(trainer.model).__name__} on {len(dataset)} rows"
    parts = [
        f"<h1>{html.escape(title)}</h1>",
        _table(("measure", "value"), [(k, f"{v:.5g}") for k, v in values.items()]),
    ]
    if len(trainer.history):
        parts.append(f"<h2>Training</h2><div class=curves>{''.join(_curves(trainer.history))}</div>")
    labels = dataset.labels
    classes = outputs.ndim == 2 and labels.ndim == 1 and labels.dtype.kind in "iub" and outputs.shape[1] > 1
    parts.extend(_of_classes(trainer, dataset, outputs, worst) if classes else _of_numbers(dataset, outputs, worst))
    page = (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{html.escape(title)}</title>"
        f"<style>{_STYLE}</style>{''.join(parts)}</html>\n"
    )
    target = os.path.abspath(os.fspath(path))
    os.makedirs(os.path.dirname(target), exist_ok=True)
    with open(target, "w", encoding="utf-8") as file:
        file.write(page)
    return values


def _outputs(trainer: Trainer, dataset: ArrayDataset) -> Array:
    found = []
    for *inputs, _ in DataLoader(dataset, 256).batches(0):
        out = trainer._outputs(*inputs)
        found.append(np.array((out[0] if isinstance(out, (tuple, list)) else out).numpy(), np.float64))
    return np.concatenate(found)


def _cell(value: Any) -> str:
    text = isinstance(value, str) and not value.replace(".", "").replace("-", "").isdigit()
    shown = value if isinstance(value, _Html) else html.escape(str(value))
    return f"<td{' class=text' if text else ''}>{shown}</td>"


class _Html(str):
    """Text that is markup already."""


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]], wrong: Sequence[bool] = ()) -> str:
    lines = ["".join(f"<th>{html.escape(h)}</th>" for h in head)]
    for i, row in enumerate(rows):
        lines.append("".join(map(_cell, row)))
        if i < len(wrong) and wrong[i]:
            lines[-1] = "\0" + lines[-1]
    body = "".join(f"<tr class=wrong>{x[1:]}</tr>" if x.startswith("\0") else f"<tr>{x}</tr>" for x in lines)
    return f"<table>{body}</table>"


def _curves(history: History) -> list[str]:
    """One drawing (SVG) for each measured value: training and validation over the epochs."""
    drawings = []
    for name in [n for n in history.names() if not n.startswith("val_")]:
        series = [(k, history[k]) for k in (name, f"val_{name}") if k in history]
        every = [v for _, values in series for v in values if np.isfinite(v)] or [0.0]
        low, high = min(every), max(every)
        high = high if high > low else low + 1.0
        shapes = []
        for (key, values), color in zip(series, _SERIES, strict=False):
            x = np.linspace(40, 300, len(values)) if len(values) > 1 else np.array([170.0])
            y = 160 - 140 * (np.nan_to_num(np.array(values), nan=low, posinf=high, neginf=low) - low) / (high - low)
            points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))
            shapes.append(f'<polyline fill=none stroke="{color}" stroke-width=2 points="{points}"/>')
            shapes.append(f'<circle cx={x[-1]:.1f} cy={y[-1]:.1f} r=3 fill="{color}"/>')
            at = 40 + 130 * (key != name)
            shapes.append(f'<text x={at} y=196 fill="{color}">{html.escape(key)}</text>')
        frame = (
            f'<path d="M40 15V160H300" fill=none stroke="#999"/><text x=36 y=24 text-anchor=end>{high:.3g}</text>'
            f"<text x=36 y=160 text-anchor=end>{low:.3g}</text><text x=300 y=176 text-anchor=end>epoch "
            f"{max(len(v) for _, v in series)}</text>"
        )
        drawings.append(f'<svg width=320 height=204 font-size=11 fill="#555">{frame}{"".join(shapes)}</svg>')
    return drawings


def _of_classes(trainer: Trainer, dataset: ArrayDataset, outputs: Array, worst: int) -> list[str]:
    labels, count = dataset.labels.astype(np.int64), outputs.shape[1]
    used = trainer._classes or dataset.classes or []
    names = [used[i] if i < len(used) else str(i) for i in range(count)]
    known = (labels >= 0) & (labels < count)  # an ignored label is no class
    rows = np.flatnonzero(known)
    logits = outputs - outputs.max(1, keepdims=True)
    chances = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    predicted = outputs.argmax(1)
    parts = []
    if count <= 50:
        confusion = np.zeros((count, count), np.int64)
        np.add.at(confusion, (labels[rows], predicted[rows]), 1)
        shares = confusion / np.maximum(1, confusion.sum(1, keepdims=True))
        lines = []
        for i, name in enumerate(names):
            colors = ["47,125,78" if i == j else "192,57,43" for j in range(count)]
            cells = "".join(
                f'<td style="background:rgba({color},{share * 0.7:.2f})">{n}</td>'
                for n, color, share in zip(confusion[i], colors, shares[i], strict=True)
            )
            lines.append(f"<tr><th class=text>{html.escape(name)}</th>{cells}</tr>")
        head = "".join(f"<th>{html.escape(n)}</th>" for n in names)
        parts.append(
            f"<h2>Confusion</h2><table><tr><th class=text>label \\ predicted</th>{head}</tr>{''.join(lines)}</table>"
        )
    loss = -np.log(np.maximum(chances[rows, labels[rows]], 1e-300))
    order = rows[np.argsort(-loss, kind="stable")[:worst]]
    images = _pictures(dataset, order)
    table = _table(
        ("row", *(["picture"] if images else []), "label", "predicted", "sure of it", "chance of the label"),
        [
            (int(i), *([images[k]] if images else []), names[labels[i]], names[predicted[i]],
             f"{chances[i, predicted[i]]:.3f}", f"{chances[i, labels[i]]:.3g}")
            for k, i in enumerate(order)
        ],
        [bool(labels[i] != predicted[i]) for i in order],
    )  # fmt: skip
    return [*parts, f"<h2>Worst predictions</h2><small>the largest loss first</small>{table}"]


def _show(values: Array) -> str:
    return ", ".join(f"{v:.5g}" for v in values[:6]) + (" …" if len(values) > 6 else "")


def _of_numbers(dataset: ArrayDataset, outputs: Array, worst: int) -> list[str]:
    wanted = dataset.labels.astype(np.float64)
    if wanted.size != outputs.size:
        return []
    wanted, found = wanted.reshape(len(wanted), -1), outputs.reshape(len(outputs), -1)
    error = np.abs(found - wanted).max(1)
    order = np.argsort(-error, kind="stable")[:worst]
    table = _table(
        ("row", "label", "predicted", "deviation"),
        [(int(i), _show(wanted[i]), _show(found[i]), f"{error[i]:.5g}") for i in order],
    )
    return [f"<h2>Worst predictions</h2><small>the largest deviation first</small>{table}"]


def _pictures(dataset: ArrayDataset, rows: Array) -> list[_Html]:
    """The inputs of these rows where they are images and matplotlib is there to encode them."""
    first = dataset.arrays[0]
    if first.ndim != 4 or first.shape[1] not in (1, 3) or max(first.shape[2:]) > 512:
        return []
    try:
        from matplotlib import image
    except ImportError:
        return []
    save: Any = image.imsave
    found = []
    for x in dataset[rows][0].astype(np.float64):
        spread = x.max() - x.min()
        pixels = np.moveaxis((x - x.min()) / (spread if spread > 0 else 1.0), 0, 2)
        memory = io.BytesIO()
        save(memory, np.repeat(pixels, 3, 2) if pixels.shape[2] == 1 else pixels, format="png")
        code = base64.b64encode(memory.getvalue()).decode()
        found.append(_Html(f'<img height=56 src="data:image/png;base64,{code}">'))
    return found
