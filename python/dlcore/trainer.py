"""Trainer: the whole way from labelled data to a program, for models and losses that fit the usual loop."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from dlcore import _core, checkpoint
from dlcore.callbacks import Callback
from dlcore.compile import compile
from dlcore.data.dataset import Array, ArrayDataset, as_array, refuse_sealed, require_finite
from dlcore.data.loader import DataLoader
from dlcore.errors import TrainingError
from dlcore.freezing import freeze
from dlcore.history import History
from dlcore.metrics import Accumulator, Metric, find
from dlcore.nn.loss import BCEWithLogitsLoss, CrossEntropyLoss, NLLLoss
from dlcore.nn.module import Module
from dlcore.optim.optimizer import Optimizer
from dlcore.program import Program
from dlcore.progress import Progress
from dlcore.tensor import Tensor
from dlcore.train_step import train_step

_EVALUATED_TOGETHER = 256
_RUN_SECONDS = 0.05  # steps run without Python for so long: how soon Ctrl-C and the progress bar are served
_MOST_STEPS = 4096


class Trainer:
    """A model with its loss, optimizer and metrics.

    loss: a function of (outputs, targets) that gives a scalar mean. metrics: names or dlcore.metrics.Metric.
    preprocess: applied to the inputs in training and evaluation, and frozen into the program (`data.Normalize`).
    """

    def __init__(
        self,
        model: Module,
        loss: Callable[..., Tensor],
        optimizer: Optimizer,
        metrics: Sequence[str | Metric] = (),
        preprocess: Callable[[Any], Any] | None = None,
    ) -> None:
        self.model = model
        self.loss = loss
        self.optimizer = optimizer
        self.metrics = find(metrics)
        self.preprocess = preprocess
        self.history = History()
        self.stop = False
        self.position = checkpoint.Position()
        self._example: Any = None
        self._classes: list[str] | None = None
        self._step = train_step(model, optimizer)(self._forward)
        self._measure = compile(self._forward)
        self._outputs = compile(self._predict)

    def _predict(self, x: Tensor, *more: Tensor) -> Any:
        return self.model(x if self.preprocess is None else self.preprocess(x), *more)

    def _forward(self, *columns: Tensor) -> tuple[Tensor, list[dict[str, Tensor]]]:
        """The dataset's arrays: inputs of the model, then the labels."""
        *inputs, y = columns
        outputs = self._predict(*inputs)
        return self.loss(outputs, y), [m.sums(outputs, y) for m in self.metrics]

    def fit(
        self,
        train: ArrayDataset,
        epochs: int = 1,
        batch_size: int = 32,
        validation: float | ArrayDataset | None = None,
        shuffle: bool = True,
        seed: int = 0,
        callbacks: Sequence[Callback] = (),
        resume: str | os.PathLike[str] | None = None,
        verbose: bool = True,
    ) -> History:
        """Trains for `epochs` epochs and returns what they measured.

        validation: a share to cut from train, or a dataset; measured after each epoch. The sealed test set is refused.
        resume: a file of `save`; training goes on where it stopped, with the same bits as without the interruption.
        Ctrl-C stops after the step at hand: the model, and the history so far, stay usable.
        Raises ValueError for data that cannot be trained on (naming the row), TrainingError when the loss is no number.
        """
        if epochs < 1:
            raise ValueError(f"epochs should be at least 1, got {epochs}")
        train, held_out = self._prepare(train, validation, seed)
        loader = DataLoader(train, batch_size, shuffle, seed)
        self.position = checkpoint.Position()
        if resume is not None:
            checkpoint.load(self, resume)
            if self.position.batch > len(loader):
                raise ValueError(
                    f"fit(resume=…) stands after {self.position.batch} batches of an epoch, this data has "
                    f"{len(loader)}: resume with the data and batch_size it was saved with"
                )
        self.stop = False
        for callback in callbacks:
            callback.begin(self)
        with _interruptible() as interrupted, Progress(epochs, len(train), verbose) as progress:
            for epoch in range(self.position.epoch, epochs):
                self.optimizer.epoch = epoch
                sums = self._train_epoch(loader, epoch, progress, interrupted)
                values = sums.result()
                if interrupted.is_set():
                    if verbose:
                        print(
                            f"stopped in epoch {epoch + 1} after {sums.rows} rows; the model keeps what it has learnt"
                        )
                    break
                if held_out is not None:
                    values |= {f"val_{k}": v for k, v in self.evaluate(held_out).items()}
                self.position = checkpoint.Position(epoch + 1)
                self.history.add(values)
                for callback in callbacks:
                    callback.epoch_end(self, epoch + 1, values)
                progress.end(epoch + 1, sums.rows, values)
                if self.stop:
                    break
        for callback in callbacks:
            callback.end(self)
        return self.history

    def _train_epoch(
        self, loader: DataLoader, epoch: int, progress: Progress, interrupted: threading.Event
    ) -> Accumulator:
        sums = Accumulator(self.metrics)
        if self.position.sums is not None:
            sums.restore(self.position.sums)
        progress.epoch(epoch + 1, sums.rows)
        for rows, losses, parts in self._steps(loader, epoch):
            at = self.position.batch
            wrong = ~np.isfinite(losses)
            if wrong.any():
                k = int(np.argmax(wrong))
                raise TrainingError(
                    f"the loss is {losses[k]} at step {at + k + 1} of epoch {epoch + 1}: the learning rate "
                    f"({self.optimizer.learning_rate():g}) may be too high (clip_norm= helps), or the inputs too large"
                )
            sums.add(rows, losses, parts)
            stopped = interrupted.is_set()
            self.position = checkpoint.Position(epoch, at + len(losses), sums.state() if stopped else None)
            if progress.due():
                progress.step(sums.rows, sums.result())
            if stopped:
                break
        return sums

    def _steps(self, loader: DataLoader, epoch: int) -> Iterator[tuple[int, Array, list[dict[str, Array]]]]:
        """(rows of a batch, losses, metrics' sums) of the remaining steps, several together for data in memory."""
        size, first = loader.batch_size, self.position.batch
        columns = loader.columns() if self.optimizer.accumulate == 1 else None
        if columns is not None:
            cores = [_core.Tensor.from_numpy(c) for c in columns]
            order = _core.Tensor.from_numpy(loader.rows(epoch))
            whole = len(loader.dataset) // size
            while first < whole:
                count = min(whole - first, _MOST_STEPS)
                done, (losses, parts) = self._step.run_batches(cores, order, size, first, count, _RUN_SECONDS)
                first += done
                yield size, losses.numpy(), [{k: v.numpy() for k, v in p.items()} for p in parts]
        for batch in loader.batches(epoch, first):
            loss, parts = self._step(*batch)
            yield len(batch[0]), loss.numpy()[None], [{k: v.numpy()[None] for k, v in p.items()} for p in parts]

    def _prepare(self, train: ArrayDataset, validation: Any, seed: int) -> tuple[ArrayDataset, ArrayDataset | None]:
        refuse_sealed(train, "fit")
        refuse_sealed(validation, "fit(validation=…)")
        self._accept(train, "fit")
        held_out = validation if isinstance(validation, ArrayDataset) else None
        if isinstance(validation, (int, float)) and not isinstance(validation, bool):
            rows, kept = train._divide(validation, seed, None, None, None)
            train, held_out = train.select(rows), train.select(kept)
        elif validation is not None and held_out is None:
            raise TypeError(f"validation should be a share of train or a dataset, got {type(validation).__name__}")
        return train, held_out

    def _accept(self, dataset: ArrayDataset, who: str) -> None:
        """Refuses what would only show as a strange loss: no rows, values that are no numbers, labels out of range."""
        if not isinstance(dataset, ArrayDataset):
            raise TypeError(f"{who} takes a data.ArrayDataset, got {type(dataset).__name__}")
        if len(dataset.arrays) < 2:
            raise ValueError(f"{who} needs inputs and labels, got a dataset of one array")
        if not len(dataset):
            raise ValueError(f"{who}: the dataset has no rows")
        require_finite(dataset, who)
        *example, _ = next(DataLoader(dataset.select([0])).batches(0))
        self._example = tuple(example) if len(example) > 1 else example[0]
        self._classes = dataset.classes or self._classes
        outputs = self._outputs(*example)
        if isinstance(self.loss, (CrossEntropyLoss, NLLLoss)) and dataset.labels.dtype.kind != "f":
            self._check_labels(dataset, outputs.shape[-1] if outputs.ndim != 4 else outputs.shape[1], who)

    def _check_labels(self, dataset: ArrayDataset, classes: int, who: str) -> None:
        labels = dataset.labels
        ignored = getattr(self.loss, "ignore_index", None)
        good = ((labels >= 0) & (labels < classes)) | (labels == (-1 if ignored is None else ignored)) & (
            ignored is not None
        )
        if not good.all():
            row = int(np.argmin(good.reshape(len(labels), -1).all(1)))
            wrong = labels[row].reshape(-1)[~good[row].reshape(-1)][0]
            raise ValueError(
                f"{who}: label {wrong} of row {row} is outside [0, {classes}), the classes that the model tells apart"
            )

    def evaluate(self, dataset: ArrayDataset, batch_size: int = _EVALUATED_TOGETHER) -> dict[str, float]:
        """Mean loss and metrics in inference mode; this is what the sealed test set is for."""
        self._accept(dataset, "evaluate")
        sums = Accumulator(self.metrics)
        for batch in DataLoader(dataset, batch_size).batches(0):
            loss, parts = self._measure(*batch)
            sums.add(len(batch[0]), loss.numpy()[None], [{k: v.numpy()[None] for k, v in p.items()} for p in parts])
        return sums.result()

    def freeze(self, example: Any = None, optimize: str = "throughput") -> Program:
        """Architecture, parameters and preprocessing as a Program that takes raw inputs."""
        example = self._example if example is None else example
        if example is None:
            raise ValueError("freeze does not know the inputs yet: call fit or evaluate before, or pass example=")
        kind = "values"
        if isinstance(self.loss, (CrossEntropyLoss, NLLLoss)):
            kind = "classes"
        elif isinstance(self.loss, BCEWithLogitsLoss):
            kind = "binary"
        return freeze(self.model, example, self.preprocess, self._classes, optimize, kind)

    def predict(self, *inputs: Any) -> Any:
        """What the frozen program predicts; freeze once and keep it where this is called often."""
        example = tuple(as_array(x)[:1] for x in inputs) if self._example is None else None
        return self.freeze(example).predict(*inputs)

    def report(self, dataset: ArrayDataset, path: str | os.PathLike[str], worst: int = 20) -> dict[str, float]:
        """Evaluates and writes one HTML file that needs nothing else: what was measured, the learning curves, confusion
        of classes, and the `worst` rows (with pictures of images where matplotlib is installed). Returns the values."""
        from dlcore import report

        return report.write(self, dataset, path, worst)

    def save(self, path: str | os.PathLike[str]) -> None:
        """What `fit(resume=path)` needs to go on: parameters, optimizer, counters, history. A safetensors file."""
        checkpoint.save(self, path)


@contextmanager
def _interruptible() -> Iterator[threading.Event]:
    """Within, the first Ctrl-C sets the event instead of raising; the second raises as usual."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return
    before = signal.getsignal(signal.SIGINT)

    def stop(number: int, frame: Any) -> None:
        event.set()
        signal.signal(signal.SIGINT, before)

    if before is signal.SIG_IGN or before is None:
        yield event
        return
    signal.signal(signal.SIGINT, stop)
    try:
        yield event
    finally:
        signal.signal(signal.SIGINT, before)
