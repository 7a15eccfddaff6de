"""ArrayDataset: arrays of equal length, and splitting off a test set that nothing can train on."""

from __future__ import annotations

import hashlib
import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
_BLOCK = 4096  # rows gathered at once where a whole column would be copied


def generator(*key: int) -> np.random.Generator:
    """Random numbers counted from a key (Philox): the same for the same key on any machine."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(key)))


def as_array(value: Any) -> Array:
    """Anything NumPy can view, without a copy where that is possible; float64 stays (batches convert it)."""
    if hasattr(value, "detach") and hasattr(value, "cpu"):  # a PyTorch tensor
        value = value.detach().cpu()
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise ValueError(f"the data is no array: {error} (rows of different lengths?)") from None
    if array.ndim == 0:
        raise ValueError(f"data needs a first axis that counts rows, got the single value {array!r}")
    return array


class ArrayDataset:
    """Rows of several arrays: inputs first, labels last.

    arrays: anything NumPy can view (lists, arrays, PyTorch tensors, memory maps), of equal length.
    classes: names of the labels 0, 1, …. Labels that are text become numbers, their sorted distinct values the classes.
    """

    def __init__(self, *arrays: Any, classes: Sequence[str] | None = None) -> None:
        if not arrays:
            raise ValueError("a dataset needs at least one array")
        self.arrays = tuple(as_array(a) for a in arrays)
        lengths = [len(a) for a in self.arrays]
        if len(set(lengths)) > 1:
            raise ValueError(f"the arrays of a dataset should have equal length, got {', '.join(map(str, lengths))}")
        self.classes = None if classes is None else [str(c) for c in classes]
        labels = self.arrays[-1]
        if len(arrays) > 1 and labels.dtype.kind in "US":
            names = self.classes or [str(v) for v in np.unique(labels)]
            numbers = {name: i for i, name in enumerate(names)}
            unknown = sorted({str(v) for v in labels} - set(numbers))
            if unknown:
                raise ValueError(f"labels {unknown[:5]} are not among the classes {names}")
            self.arrays = (*self.arrays[:-1], np.array([numbers[str(v)] for v in labels], np.int64))
            self.classes = names
        for a in self.arrays:
            if a.dtype.kind not in "fiub":
                raise TypeError(f"data should be numbers, got an array of dtype {a.dtype}")
        self.sealed = False
        self._rows: Array | None = None  # of the arrays; None: all, in order

    def __len__(self) -> int:
        return len(self.arrays[0]) if self._rows is None else len(self._rows)

    def __getitem__(self, index: Any) -> tuple[Array, ...]:
        """The rows of each array at an integer, slice or array of integers."""
        rows = index if self._rows is None else self._rows[index]
        return tuple(a[rows] for a in self.arrays)

    def __repr__(self) -> str:
        shapes = ", ".join(f"{a.dtype}{list(a.shape[1:])}" for a in self.arrays)
        return f"ArrayDataset({len(self)} rows of {shapes}{', sealed test set' if self.sealed else ''})"

    @property
    def labels(self) -> Array:
        """The last array's rows."""
        return self.column(-1)

    def column(self, i: int) -> Array:
        """All rows of one array."""
        a = self.arrays[i]
        return a if self._rows is None else a[self._rows]

    def select(self, rows: Any) -> ArrayDataset:
        """The rows at these positions, in this order, without copying the arrays."""
        rows = np.asarray(rows)
        part = ArrayDataset.__new__(ArrayDataset)
        part.arrays, part.classes, part.sealed = self.arrays, self.classes, self.sealed
        part._rows = np.arange(len(self))[rows] if self._rows is None else self._rows[rows]
        return part

    def split(
        self,
        test: float | int = 0.2,
        seed: int = 0,
        stratify: bool | None = None,
        groups: Any = None,
        time: Any = None,
    ) -> tuple[ArrayDataset, ArrayDataset]:
        """(train, test): test is sealed, so that `fit` and normalisers refuse it.

        test: share of the rows (0 … 1) or their number.
        stratify: each class in the same proportion on both sides; by default where the labels are classes.
        groups: an array with a group for each row; a group stands on one side as a whole.
        time: an array to sort by; the latest rows are kept for testing, nothing is shuffled.
        Rows of train whose input stands again in test are counted and warned of.
        """
        train_rows, test_rows = self._divide(test, seed, stratify, groups, time)
        train, kept = self.select(train_rows), self.select(test_rows)
        if again := train.rows_also_in(kept):
            warnings.warn(
                f"{again} rows of train stand again in test: the test result will look better than it is", stacklevel=2
            )
        kept.sealed = True
        return train, kept

    def _divide(
        self, test: float | int, seed: int, stratify: bool | None, groups: Any, time: Any
    ) -> tuple[Array, Array]:
        n = len(self)
        if n < 2:
            raise ValueError(f"a dataset with {n} rows cannot be split: it is {'empty' if n == 0 else 'too small'}")
        count = (
            test if isinstance(test, int) and not isinstance(test, bool) else round(test * n) if 0 < test < 1 else -1
        )
        if not 0 < count < n:
            raise ValueError(f"test should be a share between 0 and 1 or a number of rows below {n}, got {test}")
        if groups is not None and time is not None:
            raise ValueError("split takes groups or time, not both")
        if time is not None:
            order = np.argsort(self._aligned(time, "time"), kind="stable")
            return order[: n - count], order[n - count :]
        rng = generator(seed)
        if groups is not None:
            ids, of_row = np.unique(self._aligned(groups, "groups"), return_inverse=True)
            if len(ids) < 2:
                raise ValueError("split needs at least two groups")
            sizes = np.bincount(of_row)
            order = rng.permutation(len(ids))
            # Whole groups until the share is reached, one at least on each side.
            taken = int(np.clip(np.searchsorted(np.cumsum(sizes[order]), count) + 1, 1, len(ids) - 1))
            in_test = np.isin(of_row, order[:taken])
        else:
            classes = self._class_of_rows() if stratify is not False else None
            if stratify and classes is None:
                raise ValueError("stratify=True needs integer labels with at least two rows of each class")
            in_test = np.zeros(n, bool)
            in_test[rng.permutation(n)[:count] if classes is None else _stratified(classes, count, rng)] = True
        rows = rng.permutation(n)
        return rows[~in_test[rows]], rows[in_test[rows]]

    def _aligned(self, value: Any, name: str) -> Array:
        array = as_array(value)
        if len(array) != len(self):
            raise ValueError(f"{name} should have a value for each of the {len(self)} rows, got {len(array)}")
        return array

    def _class_of_rows(self) -> Array | None:
        """Labels as class numbers, or None where they are no classes: not whole numbers, or too many of them."""
        if len(self.arrays) < 2 or self.arrays[-1].ndim != 1:
            return None
        labels = self.labels
        if labels.dtype.kind == "f" and self.classes is None:
            return None
        distinct, of_row = np.unique(labels, return_inverse=True)
        few = len(distinct) <= max(2, len(labels) // 2) and np.bincount(of_row).min() >= 2
        return of_row if few else None

    def rows_also_in(self, other: ArrayDataset) -> int:
        """How many of these rows' inputs stand in the other dataset, to the bit."""
        theirs = set(other._digests())
        return sum(d in theirs for d in self._digests())

    def _digests(self) -> list[bytes]:
        found = []
        for begin in range(0, len(self), _BLOCK):
            block = self[begin : begin + _BLOCK][: max(1, len(self.arrays) - 1)]
            parts = [
                np.ascontiguousarray(a).reshape(len(a), -1).view(np.uint8).reshape(len(a), -1) for a in block if a.size
            ]
            if parts:
                rows = np.concatenate(parts, 1)
                found += [hashlib.blake2b(r.tobytes(), digest_size=16).digest() for r in rows]
        return found


def _stratified(classes: Array, count: int, rng: np.random.Generator) -> Array:
    """`count` rows, each class in its proportion: the largest remainders get the rows left over by rounding down."""
    sizes = np.bincount(classes)
    exact = sizes * (count / len(classes))
    wanted = np.floor(exact).astype(int)
    for c in np.argsort(wanted - exact, kind="stable")[: count - wanted.sum()]:
        wanted[c] += 1
    order = rng.permutation(len(classes))
    return np.concatenate([order[classes[order] == c][:k] for c, k in enumerate(wanted)])


def refuse_sealed(dataset: Any, who: str) -> None:
    """The test set is for evaluate and predict alone."""
    if getattr(dataset, "sealed", False):
        raise ValueError(
            f"{who} was given the sealed test set: it is kept for evaluate, and nothing may be fitted to it"
        )


def require_finite(dataset: ArrayDataset, who: str) -> None:
    """Raises ValueError naming the first row with a NaN or infinity in it."""
    for i, array in enumerate(dataset.arrays):
        if array.dtype.kind != "f":
            continue
        what = "label" if i == len(dataset.arrays) - 1 and i > 0 else "input"
        for begin in range(0, len(dataset), _BLOCK):
            block = dataset[begin : begin + _BLOCK][i]
            good = np.isfinite(block.reshape(len(block), math.prod(block.shape[1:]))).all(1)
            if not good.all():
                row = begin + int(np.argmin(good))
                bad = block[row - begin].reshape(-1)
                value = bad[~np.isfinite(bad)][0]
                raise ValueError(
                    f"{who}: the {what} of row {row} is {'NaN' if np.isnan(value) else value}; clean the data first"
                )
