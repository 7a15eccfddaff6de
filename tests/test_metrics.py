"""Each metric against its formula, over batches of uneven size."""

from __future__ import annotations

import numpy as np
import pytest

import dlcore as dl
from dlcore import metrics

RNG = np.random.default_rng(0)
LOGITS, LABELS = RNG.standard_normal((101, 7)).astype(np.float32), RNG.integers(0, 7, 101)
VALUES, TARGETS = RNG.standard_normal((101, 1)).astype(np.float32), RNG.standard_normal((101, 1)).astype(np.float32)


def measure(name: str, outputs: np.ndarray, targets: np.ndarray) -> float:
    (metric,) = metrics.find([name])
    sums = metrics.Accumulator([metric])
    for begin in range(0, len(outputs), 32):
        part = metric.sums(dl.tensor(outputs[begin : begin + 32]), dl.tensor(targets[begin : begin + 32]))
        sums.add(len(outputs[begin : begin + 32]), [0.0], [{k: v.numpy()[None] for k, v in part.items()}])
    return sums.result()[name]


def per_class(kind: str) -> float:
    predicted = LOGITS.argmax(1)
    found = []
    for c in range(7):
        hit = float(((predicted == c) & (c == LABELS)).sum())
        p, r = hit / max(1, (predicted == c).sum()), hit / max(1, (c == LABELS).sum())
        found.append({"precision": p, "recall": r, "f1": 2 * p * r / (p + r) if p + r else 0.0}[kind])
    return float(np.mean(found))


RANK = np.argsort(-LOGITS, 1)
RESIDUAL = float(((VALUES - TARGETS) ** 2).sum())
EXPECTED = {
    "accuracy": float((LOGITS.argmax(1) == LABELS).mean()),
    "top_5_accuracy": float((RANK[:, :5] == LABELS[:, None]).any(1).mean()),
    "precision": per_class("precision"),
    "recall": per_class("recall"),
    "f1": per_class("f1"),
    "mae": float(np.abs(VALUES - TARGETS).mean()),
    "mse": RESIDUAL / 101,
    "r2": 1 - RESIDUAL / float(((TARGETS - TARGETS.mean()) ** 2).sum()),
}


@pytest.mark.parametrize("name", list(metrics.METRICS))
def test_metric(name: str) -> None:
    regression = name in ("mae", "mse", "r2")
    got = measure(name, VALUES if regression else LOGITS, TARGETS if regression else LABELS)
    assert got == pytest.approx(EXPECTED[name], rel=1e-5)


def test_binary_logits() -> None:
    logit, label = RNG.standard_normal(50).astype(np.float32), RNG.integers(0, 2, 50).astype(np.float32)
    assert measure("accuracy", logit, label) == pytest.approx(float(((logit > 0) == (label > 0.5)).mean()))


def test_how_batches_are_grouped_changes_no_bit() -> None:
    losses = RNG.random(64)
    one, many = metrics.Accumulator([]), metrics.Accumulator([])
    for v in losses:
        one.add(10, [v], [])
    many.add(10, losses[:40], [])
    many.add(10, losses[40:], [])
    assert one.loss == many.loss
    assert one.rows == many.rows == 640
