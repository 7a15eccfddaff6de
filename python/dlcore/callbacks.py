"""What happens beside training: called at the beginning, after each epoch, and at the end."""

from __future__ import annotations

import csv
import os
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from dlcore.data.dataset import refuse_sealed

if TYPE_CHECKING:
    from dlcore.trainer import Trainer


class Callback:
    """Base of callbacks; each method may be left out. `trainer.stop = True` ends training after the epoch."""

    def begin(self, trainer: Trainer) -> None: ...

    def epoch_end(self, trainer: Trainer, epoch: int, values: dict[str, float]) -> None:
        """After epoch `epoch` (from 1) with what it measured."""

    def end(self, trainer: Trainer) -> None: ...


def _better(value: float, best: float, monitor: str, least: float = 0.0) -> bool:
    if any(part in monitor for part in ("accuracy", "r2", "precision", "recall", "f1")):
        return value > best + least
    return value < best - least


class _Monitor(Callback):
    def __init__(self, monitor: str) -> None:
        self.monitor = monitor
        self.best = float("nan")

    def _value(self, values: dict[str, float]) -> float:
        if self.monitor not in values:
            hint = " (fit needs validation= for it)" if self.monitor.startswith("val_") else ""
            raise ValueError(
                f"{type(self).__name__} watches '{self.monitor}', which is not measured{hint}; "
                f"measured: {', '.join(values)}"
            )
        return values[self.monitor]


class EarlyStopping(_Monitor):
    """Stops when `monitor` has not improved by `min_delta` for `patience` epochs; puts the best parameters back."""

    def __init__(
        self, monitor: str = "val_loss", patience: int = 3, min_delta: float = 0.0, restore_best: bool = True
    ) -> None:
        super().__init__(monitor)
        self.patience, self.min_delta, self.restore_best = patience, min_delta, restore_best
        self.waited = 0
        self._state: dict[str, Any] | None = None

    def epoch_end(self, trainer: Trainer, epoch: int, values: dict[str, float]) -> None:
        value = self._value(values)
        if np.isnan(self.best) or _better(value, self.best, self.monitor, self.min_delta):
            self.best, self.waited = value, 0
            if self.restore_best:
                self._state = {k: np.array(v.numpy()) for k, v in trainer.model.state_dict().items()}
        else:
            self.waited += 1
            trainer.stop = trainer.stop or self.waited >= self.patience

    def end(self, trainer: Trainer) -> None:
        if self._state is not None:
            trainer.model.load_state_dict(self._state)


class ModelCheckpoint(_Monitor):
    """Saves the trainer (to resume from) after each epoch, or with `monitor` only when that improved.

    path: may hold {epoch} and measured names, as "best-{epoch}-{val_loss:.3f}.ckpt".
    """

    def __init__(self, path: str | os.PathLike[str], monitor: str | None = None) -> None:
        super().__init__(monitor or "")
        self.path = os.fspath(path)

    def epoch_end(self, trainer: Trainer, epoch: int, values: dict[str, float]) -> None:
        if self.monitor:
            value = self._value(values)
            if not np.isnan(self.best) and not _better(value, self.best, self.monitor):
                return
            self.best = value
        trainer.save(self.path.format(epoch=epoch, **values))


class CSVLogger(Callback):
    """Writes each epoch's values as a line of a CSV file."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)

    def epoch_end(self, trainer: Trainer, epoch: int, values: dict[str, float]) -> None:
        first = epoch == 1 or not os.path.exists(self.path)
        with open(self.path, "w" if first else "a", newline="") as file:
            writer = csv.writer(file)
            if first:
                writer.writerow(["epoch", *values])
            writer.writerow([epoch, *values.values()])


class TensorBoard(Callback):
    """Writes each epoch's values for TensorBoard, which has to be installed (`pip install 'dlcore[tensorboard]'`)."""

    def __init__(self, log_dir: str | os.PathLike[str] = "runs") -> None:
        try:
            from tensorboard.compat.proto.event_pb2 import Event
            from tensorboard.compat.proto.summary_pb2 import Summary
            from tensorboard.summary.writer.event_file_writer import EventFileWriter
        except ImportError:
            raise ImportError("callbacks.TensorBoard needs TensorBoard: pip install 'dlcore[tensorboard]'") from None
        self._event, self._summary, self._open = Event, Summary, EventFileWriter
        self.log_dir = os.fspath(log_dir)
        self._writer: Any = None

    def begin(self, trainer: Trainer) -> None:
        self._writer = self._open(self.log_dir)

    def epoch_end(self, trainer: Trainer, epoch: int, values: dict[str, float]) -> None:
        scalars = [self._summary.Value(tag=k, simple_value=v) for k, v in values.items()]
        self._writer.add_event(self._event(wall_time=time.time(), step=epoch, summary=self._summary(value=scalars)))
        self._writer.flush()

    def end(self, trainer: Trainer) -> None:
        self._writer.close()


class Evaluate(Callback):
    """Evaluates a further data set after each epoch, under a prefix; the sealed test set is refused."""

    def __init__(self, dataset: Any, prefix: str) -> None:
        refuse_sealed(dataset, "callbacks.Evaluate")
        self.dataset, self.prefix = dataset, prefix

    def epoch_end(self, trainer: Trainer, epoch: int, values: dict[str, float]) -> None:
        values |= {f"{self.prefix}_{k}": v for k, v in trainer.evaluate(self.dataset).items()}
