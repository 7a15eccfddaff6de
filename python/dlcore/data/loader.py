"""DataLoader: batches of a dataset, prepared ahead in a thread."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np

from dlcore.data.dataset import Array, ArrayDataset, generator

_AHEAD = 2  # batches prepared before they are asked for
_END = object()
_DIRECT = tuple(np.dtype(t) for t in ("f4", "f2", "i1", "u1", "i4", "i8", "?"))
_MOST_COPIED = 1 << 28  # bytes


class DataLoader:
    """Iterates over batches as tuples of arrays; float64 arrives as float32.

    shuffle: another order each epoch, decided by seed and the epoch's number alone (`epoch`, counted by iterating).
    drop_last: leaves out a last batch that is not full.
    """

    def __init__(
        self,
        dataset: ArrayDataset,
        batch_size: int = 32,
        shuffle: bool = False,
        seed: int = 0,
        drop_last: bool = False,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size should be at least 1, got {batch_size}")
        self.dataset = dataset
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.seed = seed
        self.drop_last = drop_last
        self.epoch = 0

    def __len__(self) -> int:
        n = len(self.dataset)
        return n // self.batch_size if self.drop_last else -(-n // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Array, ...]]:
        self.epoch += 1
        return self.batches(self.epoch - 1)

    def order(self, epoch: int) -> Array:
        """The rows of an epoch in the order they come."""
        n = len(self.dataset)
        return generator(self.seed, epoch).permutation(n) if self.shuffle else np.arange(n)

    def columns(self) -> tuple[Array, ...] | None:
        """The dataset's whole arrays as batches hold them, or None where that would copy more than a little."""
        arrays = self.dataset.arrays
        copied = sum(a.nbytes for a in arrays if not (a.dtype in _DIRECT and a.flags.c_contiguous))
        return tuple(_ready(a) for a in arrays) if copied <= _MOST_COPIED else None

    def rows(self, epoch: int) -> Array:
        """`order` as positions in `columns`."""
        order = self.order(epoch)
        picked = self.dataset._rows
        return np.ascontiguousarray(order if picked is None else picked[order], np.int64)

    def batches(self, epoch: int, first: int = 0) -> Iterator[tuple[Array, ...]]:
        """The batches of an epoch from number `first` on."""
        order, size = self.order(epoch), self.batch_size
        ready: queue.Queue[Any] = queue.Queue(_AHEAD)
        closed = threading.Event()

        def put(item: Any) -> bool:
            while not closed.is_set():
                try:
                    ready.put(item, timeout=0.1)
                    return True
                except queue.Full:
                    continue
            return False

        def prepare() -> None:
            try:
                for i in range(first, len(self)):
                    if not put(tuple(_ready(a) for a in self.dataset[order[i * size : (i + 1) * size]])):
                        return
                put(_END)
            except BaseException as error:  # handed to whoever iterates
                put(error)

        worker = threading.Thread(target=prepare, daemon=True, name="dlcore-loader")
        worker.start()
        try:
            while (item := ready.get()) is not _END:
                if isinstance(item, BaseException):
                    raise item
                yield item
        finally:
            closed.set()
            worker.join()


def _ready(a: Array) -> Array:
    if a.dtype == np.float64:
        return a.astype(np.float32)
    if a.dtype.kind in "iu" and a.dtype not in (np.int64, np.int32, np.uint8, np.int8):
        return a.astype(np.int64)
    return np.ascontiguousarray(a)
