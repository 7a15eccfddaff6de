"""Metrics, accumulated over batches of any size: each is a few sums computed with the predictions, and a formula."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from dlcore import elementwise, functions, reductions
from dlcore.tensor import Tensor

Sums: TypeAlias = "dict[str, npt.NDArray[np.float64]]"


@dataclass(frozen=True)
class Metric:
    """`sums(outputs, targets)` gives tensors that add up over batches; `result` turns their totals into the value."""

    name: str
    sums: Callable[[Tensor, Tensor], dict[str, Tensor]]
    result: Callable[[Sums], float]
    higher_is_better: bool = True


def _count(targets: Tensor) -> Tensor:
    return functions.full((), float(targets.size))


def _labels(outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Predicted and true class numbers: the largest of the last axis, or the sign of a single logit."""
    if outputs.ndim == targets.ndim + 1:
        return outputs.argmax(-1), targets.astype("int64")
    return (outputs > 0).astype("int64"), (targets > 0.5).astype("int64") if targets.dtype.is_float else targets.astype(
        "int64"
    )


def _total(x: Tensor) -> Tensor:
    return x.astype("float32").sum()


def _ratio(sums: Sums) -> float:
    return float(sums["sum"] / max(float(sums["count"]), 1.0))


def _accuracy(outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
    predicted, wanted = _labels(outputs, targets)
    return {"sum": _total(predicted == wanted), "count": _count(wanted)}


def top_k_accuracy(k: int = 5) -> Metric:
    """Share of rows whose class is among the k largest outputs."""

    def sums(outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        own = functions.take_along_axis(outputs, functions.expand_dims(targets.astype("int64"), -1), -1)
        better = (outputs > own).astype("float32").sum(-1)
        return {"sum": _total(better < float(k)), "count": _count(targets)}

    return Metric(f"top_{k}_accuracy", sums, _ratio)


def _same_shape(outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    return outputs.reshape(targets.shape) if outputs.shape != targets.shape else outputs, targets.astype("float32")


def _mae(outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
    p, y = _same_shape(outputs, targets)
    return {"sum": _total(elementwise.abs(p - y)), "count": _count(y)}


def _mse(outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
    p, y = _same_shape(outputs, targets)
    return {"sum": _total((p - y) * (p - y)), "count": _count(y)}


def _r2_sums(outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
    p, y = _same_shape(outputs, targets)
    return {"residual": _total((p - y) * (p - y)), "y": _total(y), "y2": _total(y * y), "count": _count(y)}


def _r2_result(s: Sums) -> float:
    spread = float(s["y2"] - s["y"] ** 2 / s["count"])
    return 1 - float(s["residual"]) / spread if spread > 0 else float("nan")


def _confusion(outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """For each class: rightly predicted, predicted, present."""
    predicted, wanted = _labels(outputs, targets)
    classes = outputs.shape[-1] if outputs.ndim == targets.ndim + 1 else 2
    p = functions.one_hot(predicted.reshape(-1), classes).astype("float32")
    y = functions.one_hot(wanted.reshape(-1), classes).astype("float32")
    return {"hit": reductions.sum(p * y, 0), "predicted": reductions.sum(p, 0), "present": reductions.sum(y, 0)}


def _macro(kind: str) -> Callable[[Sums], float]:
    """Mean over the classes that occur (as predictions or labels)."""

    def result(s: Sums) -> float:
        with np.errstate(divide="ignore", invalid="ignore"):
            precision = np.nan_to_num(s["hit"] / s["predicted"])
            recall = np.nan_to_num(s["hit"] / s["present"])
            f1 = np.nan_to_num(2 * precision * recall / (precision + recall))
        occurs = s["predicted"] + s["present"] > 0
        return float({"precision": precision, "recall": recall, "f1": f1}[kind][occurs].mean())

    return result


METRICS: dict[str, Metric] = {
    "accuracy": Metric("accuracy", _accuracy, _ratio),
    "top_5_accuracy": top_k_accuracy(5),
    "mae": Metric("mae", _mae, _ratio, higher_is_better=False),
    "mse": Metric("mse", _mse, _ratio, higher_is_better=False),
    "r2": Metric("r2", _r2_sums, _r2_result),
    **{k: Metric(k, _confusion, _macro(k)) for k in ("precision", "recall", "f1")},
}


def find(metrics: Sequence[str | Metric]) -> list[Metric]:
    """Metrics by name. Raises ValueError for an unknown one, with the names there are."""
    found = []
    for m in metrics:
        if isinstance(m, Metric):
            found.append(m)
        elif m in METRICS:
            found.append(METRICS[m])
        else:
            raise ValueError(f"unknown metric '{m}'; known: {', '.join(METRICS)}, or a dlcore.metrics.Metric")
    return found


def _running(total: Any, values: npt.NDArray[np.float64]) -> Any:
    """total + values[0] + values[1] + …, one after the other, so that how batches are grouped changes no bit."""
    return np.cumsum(np.concatenate([np.asarray(total)[None], values]), axis=0)[-1]


class Accumulator:
    """Loss and metrics of an epoch: sums in float64, in the order of the batches."""

    def __init__(self, metrics: Sequence[Metric]) -> None:
        self.metrics = list(metrics)
        self.rows = 0
        self.loss = 0.0
        self.sums: list[Sums] = [{} for _ in self.metrics]

    def add(self, rows: int, losses: Any, parts: Sequence[Mapping[str, Any]]) -> None:
        """Batches of `rows` rows each: their losses, and the metrics' sums stacked on the first axis."""
        per_batch = np.asarray(losses, np.float64)
        self.rows += rows * len(per_batch)
        self.loss = float(_running(np.float64(self.loss), per_batch * rows))
        for sums, part in zip(self.sums, parts, strict=True):
            for key, value in part.items():
                v = np.asarray(value, np.float64)
                sums[key] = _running(sums.get(key, np.zeros(v.shape[1:])), v)

    def result(self) -> dict[str, float]:
        if not self.rows:
            return {"loss": float("nan")} | {m.name: float("nan") for m in self.metrics}
        values = {"loss": self.loss / self.rows}
        return values | {m.name: m.result(s) for m, s in zip(self.metrics, self.sums, strict=True)}

    def state(self) -> dict[str, Any]:
        return {
            "rows": self.rows,
            "loss": self.loss,
            "sums": [{k: v.tolist() for k, v in s.items()} for s in self.sums],
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        self.rows, self.loss = int(state["rows"]), float(state["loss"])
        self.sums = [{k: np.asarray(v, np.float64) for k, v in s.items()} for s in state["sums"]]
