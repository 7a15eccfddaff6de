"""Preprocessing that is fitted to the training data and frozen into the program."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import numpy as np

from dlcore.data.dataset import Array, ArrayDataset, as_array, refuse_sealed
from dlcore.tensor import Tensor, as_tensor


class Normalize:
    """(x - mean) / std, by channel for images (N, C, H, W), by column for tables (N, D), by one pair otherwise.

    `fit` takes mean and standard deviation from the training data; calling works on arrays and, inside a model or
    program, on tensors. Integers (uint8 images) become float32 first.
    """

    def __init__(self, mean: Any = None, std: Any = None) -> None:
        self.mean: Array | None = None if mean is None else np.asarray(mean, np.float32)
        self.std: Array | None = None if std is None else np.asarray(std, np.float32)

    def fit(self, data: Any) -> Normalize:
        """Takes the statistics of the inputs of a dataset, or of an array of rows; the sealed test set is refused."""
        refuse_sealed(data, "Normalize.fit")
        x = data.column(0) if isinstance(data, ArrayDataset) else as_array(data)
        if x.size == 0:
            raise ValueError("Normalize.fit was given no rows")
        axes = {2: (0,), 4: (0, 2, 3)}.get(x.ndim)
        axes = tuple(range(x.ndim)) if axes is None else axes
        mean = x.mean(axis=axes, dtype=np.float64)
        std = np.sqrt(np.maximum(_mean_square(x, axes) - mean**2, 0))
        if not np.isfinite(mean).all():
            raise ValueError("Normalize.fit: the data holds NaN or infinity")
        std = np.where(std < 1e-8 * np.maximum(1, np.abs(mean)), 1, std)  # a constant column stays 0
        shape = (-1, 1, 1) if x.ndim == 4 else mean.shape
        self.mean, self.std = mean.astype(np.float32).reshape(shape), std.astype(np.float32).reshape(shape)
        return self

    def __call__(self, x: Any) -> Any:
        if self.mean is None or self.std is None:
            raise ValueError("Normalize has no statistics yet: call fit(train) first")
        if isinstance(x, Tensor):
            values = x if x.dtype.is_float else x.astype("float32")
            return (values - as_tensor(self.mean)) * as_tensor(1 / self.std)
        return (np.asarray(x, np.float32) - self.mean) * (1 / self.std)

    def __repr__(self) -> str:
        return "Normalize()" if self.mean is None else f"Normalize(mean={self.mean.ravel()}, std={self.std.ravel()})"  # type: ignore[union-attr]


def _mean_square(x: Array, axes: tuple[int, ...]) -> Any:
    total: Any = 0.0
    for begin in range(0, len(x), 4096):  # in blocks: the squares of everything would be a second data set
        total = total + np.square(x[begin : begin + 4096], dtype=np.float64).sum(axis=axes)
    return np.asarray(total) / (x.size // max(1, np.asarray(total).size))


class CharTokenizer:
    """Characters as numbers: the vocabulary is the sorted set of those in a text (or the characters given)."""

    def __init__(self, text: Iterable[str]) -> None:
        self.vocabulary = sorted(set(text))
        if not self.vocabulary or any(len(c) != 1 for c in self.vocabulary):
            raise ValueError("CharTokenizer needs a text, or characters")
        self._ids = {c: i for i, c in enumerate(self.vocabulary)}

    def __len__(self) -> int:
        return len(self.vocabulary)

    def encode(self, text: str) -> Array:
        """int64 (length,). Raises ValueError for a character outside the vocabulary, with its position."""
        try:
            return np.array([self._ids[c] for c in text], np.int64)
        except KeyError as error:
            raise ValueError(
                f"character {error.args[0]!r} at position {text.index(error.args[0])} is not in the vocabulary"
            ) from None

    def decode(self, ids: Any) -> str:
        """The text of numbers. Raises ValueError for one outside the vocabulary."""
        numbers = np.asarray(ids).reshape(-1)
        if numbers.size and (numbers.min() < 0 or numbers.max() >= len(self)):
            raise ValueError(f"numbers should be in [0, {len(self)}), got {numbers.min()} … {numbers.max()}")
        return "".join(self.vocabulary[int(i)] for i in numbers)

    def to_json(self) -> str:
        return json.dumps({"kind": "characters", "vocabulary": "".join(self.vocabulary)})

    @staticmethod
    def from_json(text: str) -> CharTokenizer:
        """Raises ValueError where the text is no tokenizer's."""
        made = json.loads(text)
        if (
            not isinstance(made, dict)
            or made.get("kind") != "characters"
            or not isinstance(made.get("vocabulary"), str)
        ):
            raise ValueError("the preprocessing is of no known kind")
        return CharTokenizer(made["vocabulary"])
